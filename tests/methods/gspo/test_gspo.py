"""GSPO on numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from tests.methods.support.losses import batch_of, loss_of


def test_gspo_keeps_or_clips_a_response_as_a_whole() -> None:
    batch, logp = batch_of([[0.1, -0.04, 0.03]], [1.0])
    loss, grad, _ = loss_of("gspo", {"eps_high": 0.04}, batch, logp)
    assert loss == pytest.approx(-1.030455, abs=1e-6)
    assert grad.tolist() == [pytest.approx([-0.343485] * 3, abs=1e-6)]
    loss, grad, _ = loss_of("gspo", {"eps_high": 0.02}, batch, logp)
    assert loss == pytest.approx(-1.02) and not bool(grad.any())


def test_gspo_s_ratio_is_bounded_from_above_only() -> None:
    batch, logp = batch_of([[12.0, 12.0], [-30.0, -30.0]], [-1.0, 1.0])
    loss, _, _ = loss_of("gspo", {}, batch, logp)
    assert loss == pytest.approx((math.exp(10) - math.exp(-30)) / 2, rel=1e-12)
