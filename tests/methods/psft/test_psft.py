"""PSFT on the sheet's numbers, and where it is SFT."""

from __future__ import annotations

import math

import pytest
import torch

from harness.registry import methods as registry
from tests.methods.support.losses import batch_of, loss_of
from tests.methods.support.pipeline import make_step, plan_of, update
from tests.methods.support.registered import make


def test_the_sheet_s_numbers() -> None:
    batch, logp = batch_of([[0.3, math.log(0.7)]], [1.0])
    loss, gradient, _ = loss_of("psft", {}, batch, logp)
    assert loss == pytest.approx(-0.99)
    assert gradient[0].tolist() == pytest.approx([0.0, -0.35])


@pytest.mark.parametrize("values", [{"eps_low": 0.9}, {"dual_clip": 1.5}, {"dual_clip": None}])
def test_the_lower_bound_and_the_cap_never_act(values: dict[str, float]) -> None:
    batch, logp = batch_of([[3.0, 0.1, -0.4, -6.0]], [1.0])
    (loss, gradient, _), (other, its, _) = (loss_of("psft", v, batch, logp) for v in ({}, values))
    assert loss == other and torch.equal(gradient, its)


def test_the_first_update_has_sft_s_gradient_and_another_value() -> None:
    step = make_step(1, minibatches=2)
    step.current.logits_BTV = step.old.logits_BTV
    for ours, plain in zip(plan_of(make("psft", {}), step), plan_of(make("sft", {}), step), strict=True):
        loss, gradient = update(make("psft", {}), step, ours)
        cross_entropy, its = update(make("sft", {}), step, plain)
        assert loss == pytest.approx(-1.0) and cross_entropy > 0
        torch.testing.assert_close(gradient, its, rtol=1e-12, atol=1e-15)


def test_the_defaults_are_the_script_s() -> None:
    method = registry.load("psft")()
    assert (method.eps_low, method.eps_high, method.dual_clip) == (0.2, 0.28, 10.0)
