"""KL-Cov on numbers worked out by hand, and what its penalty does to entropy."""

from __future__ import annotations

import math

import pytest
import torch

from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from methods.kl_cov import CovarianceKL, distance
from tests.methods.support.losses import rows, value_and_gradient
from tests.methods.support.tabular import PLAIN, Expected, change, entropy, stages, taken

ADVANTAGE = torch.tensor([[1.0, 1.0, -1.0, -1.0]], dtype=torch.float64)


def test_kl_cov_by_hand() -> None:
    logp = torch.tensor([[-0.1, -2.0, -0.1, -1.8]], dtype=torch.float64)
    old = torch.tensor([[-0.3, -2.0, -0.1, -1.8]], dtype=torch.float64)
    batch = rows(ADVANTAGE, old)
    penalty = CovarianceKL(0.25, 1.0)
    policy = PolicyLoss(TokenRatio(None), FixedBounds(1.0, math.inf), aggregation="token-mean")
    loss, grad = value_and_gradient(policy, batch, logp)
    extra, extra_grad = value_and_gradient(penalty, batch, logp)
    assert loss + extra == pytest.approx(-0.00535069, abs=1e-8)
    assert grad[0] + extra_grad[0] == pytest.approx(-0.0553507, abs=1e-7)
    assert extra_grad[1:] == [0, 0, 0]
    metrics = penalty.prepare(batch, {"logp": logp}).metrics
    assert metrics["kl_cov/selected"] == 0.25 and metrics["kl_cov/threshold"] == pytest.approx(0.9)
    assert metrics["kl_cov/distance"] == pytest.approx(0.2)


def test_kl_cov_does_not_follow_rounding_errors() -> None:
    old = torch.zeros(3)
    leaf = torch.tensor([4e-6, -4e-6, 0.1], requires_grad=True)
    distance(leaf, old).sum().backward()
    assert leaf.grad is not None and leaf.grad.tolist() == [0, 0, 1]
    assert distance(leaf.detach(), old).tolist() == pytest.approx([0, 0, 0.1])


@pytest.mark.parametrize("sharpness", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("share", [2e-3, 2e-2])
def test_the_penalty_on_high_covariance_raises_entropy_from_the_second_update_on(
    sharpness: float, share: float
) -> None:
    """KL-Cov after a first step that lowered entropy: the second lowers it less than without the penalty."""
    expected = Expected.make(sharpness)
    batch = expected.tokens, expected.advantage
    plain, penalised = stages("grpo", **PLAIN), stages("kl-cov", share=share)
    first = taken(plain, expected.logits, *batch, 0.5)[0]
    torch.testing.assert_close(taken(penalised, expected.logits, *batch, 0.5)[0], first)  # idle at first
    assert float((entropy(first) - entropy(expected.logits)).mean()) < 0
    without = change(plain, first, *batch, 0.1, old_SK=expected.logits)
    with_it = change(penalised, first, *batch, 0.1, old_SK=expected.logits)
    assert float(without.mean()) < float(with_it.mean())
    different = (with_it - without).abs() > 1e-12
    assert float((with_it > without)[different].double().mean()) > 0.8
