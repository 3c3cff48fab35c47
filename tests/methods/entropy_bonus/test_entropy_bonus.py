"""The rules of the adaptive coefficients."""

from __future__ import annotations

import pytest

from methods.entropy_bonus import AdaptiveEntropy, AdaptiveKL
from tests.methods.support.programs import CTX, signals


def test_adaptive_kl_of_the_sheet() -> None:
    control = AdaptiveKL(0.05, 0.1, 1000)
    control.after_update(signals(metrics={"kl_in_reward/kl": 0.3}, rows=12), CTX)
    assert control.beta == pytest.approx(0.05012)


def test_adaptive_entropy_applies_by_the_step_before() -> None:
    control = AdaptiveEntropy(0.1, target=0.2, delta=0.005, low=0.0, high=1.0)
    assert control.applied() == 0.0
    control.observe(0.1)
    assert control.applied() == pytest.approx(0.105)
    control.observe(0.5)
    assert control.coef == pytest.approx(0.1) and control.applied() == 0.0
