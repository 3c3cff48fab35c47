"""Dr. GRPO on numbers worked out by hand, and what it shares with GRPO."""

from __future__ import annotations

import math

import pytest
import torch

from harness.registry import methods as registry
from harness.stages.aggregate import token_coefficients
from harness.stages.regularise import kl_estimate
from methods.drgrpo import AGGREGATION
from tests.methods.support.losses import batch_of, loss_of
from tests.methods.support.pipeline import make_step, plan_of, update


def test_drgrpo_divides_by_the_budget() -> None:
    batch, logp = batch_of([[0.0] * 2, [0.0] * 4], [0.5, -0.5])  # rewards 1 and 0
    loss, grad, _ = loss_of("drgrpo", {}, batch, logp, width=10)
    assert loss == pytest.approx(0.05)
    assert grad[0].tolist() == pytest.approx([-0.025, -0.025, 0, 0])
    assert grad[1].tolist() == pytest.approx([0.025] * 4)


def test_drgrpo_counts_empty_responses_and_rows_that_do_not_train() -> None:
    mask = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert token_coefficients(AGGREGATION, mask, width=4).tolist() == [[0.125, 0.125, 0.0], [0.0, 0.0, 0.0]]


def test_drgrpo_is_grpo_with_two_options() -> None:
    step = make_step(2, minibatches=1)
    same = registry.load("grpo")(scale="none", aggregation=AGGREGATION).stages()
    other = registry.load("drgrpo")().stages()
    (mine,), (theirs,) = plan_of(other, step), plan_of(same, step)
    torch.testing.assert_close(update(other, step, mine), update(same, step, theirs), rtol=1e-9, atol=1e-12)


def test_the_log_ratio_of_the_kl_is_clamped() -> None:
    far = torch.tensor([-50.0, -1.0], dtype=torch.float64, requires_grad=True)
    k3 = kl_estimate("k3", far, torch.zeros(2), exponent_clamp=None, value_clamp=None, log_ratio_clamp=40.0)
    (grad,) = torch.autograd.grad(k3.sum(), far)
    assert k3.tolist() == pytest.approx([math.expm1(40) - 40, math.expm1(1) - 1])
    assert grad.tolist() == pytest.approx([0.0, 1 - math.e])
