"""Clip-Cov on numbers worked out by hand, and the covariance's signs on tabular softmax policies."""

from __future__ import annotations

import math

import pytest
import torch

from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from harness.train.update import token_draws
from methods.clip_cov import CovarianceClip, drawn
from tests.methods.support.losses import rows, value_and_gradient
from tests.methods.support.tabular import PLAIN, Expected, agreement, stages, taken

ADVANTAGE = torch.tensor([[1.0, 1.0, -1.0, -1.0]], dtype=torch.float64)


@pytest.mark.parametrize(("first", "expected"), [(0, [0, -0.25, 0.25, 0.25]), (3, [-0.25, -0.25, 0.25, 0])])
def test_clip_cov_by_hand(first: int, expected: list[float]) -> None:
    """Covariances 0.95, -0.95, -0.95, 0.95: tokens 0 and 3 are candidates and one of them is drawn."""
    logp = torch.tensor([[-0.1, -2.0, -0.1, -2.0]], dtype=torch.float64)
    draw = torch.full((1, 4), 0.5, dtype=torch.float64)
    draw[0, first] = 0.1
    draw[0, 1] = 0.0  # not a candidate, so its small number does not matter
    weight = CovarianceClip(0.25, 0.5, 5.0, 0.2, 0.2)
    stage = PolicyLoss(TokenRatio(None), FixedBounds(), weight, aggregation="token-mean")
    batch = rows(ADVANTAGE, logp, draw_BT=draw)
    loss, grad = value_and_gradient(stage, batch, logp)
    assert loss == pytest.approx(0.25 if first == 0 else -0.25) and grad == pytest.approx(expected)
    metrics = weight(batch, {"logp": logp}).metrics
    assert metrics["clip_cov/dropped"] == 0.25 and metrics["clip_cov/candidates"] == 0.5
    assert metrics["clip_cov/max"] == pytest.approx(0.95)


def test_clip_cov_draws_what_there_is_and_what_is_not_clipped() -> None:
    candidates = torch.tensor([[True, False, True]])
    draw = torch.tensor([[0.9, 0.1, 0.5]])
    assert drawn(candidates, draw, 1).tolist() == [[False, False, True]]
    assert drawn(candidates, draw, 7).tolist() == [[True, False, True]]
    assert not drawn(torch.zeros_like(candidates), draw, 2).any()
    # ratios of 1.5 with a positive advantage are clipped at 1.2: those tokens are not eligible
    logp = torch.tensor([[-0.1, -2.0, -0.1, -2.0]], dtype=torch.float64)
    old = logp - torch.tensor([[1.5, 1.0, 1.0, 1.0]], dtype=torch.float64).log()
    batch = rows(ADVANTAGE, old, draw_BT=torch.zeros(1, 4))
    weight = CovarianceClip(1.0, 0.5, 5.0, 0.2, 0.2)(batch, {"logp": logp}).value
    assert weight.tolist() == [[1, 1, 1, 0]]


def test_clip_cov_draws_uniformly() -> None:
    """Each of five candidates is among the two drawn in 2/5 of the cases."""
    candidates = torch.ones(1, 5, dtype=torch.bool)
    batch = rows(torch.zeros(1, 5), torch.zeros(1, 5))
    counts = sum(drawn(candidates, token_draws(batch, (1, step)), 2).double() for step in range(2000))
    spread = 4 * math.sqrt(0.4 * 0.6 / 2000)
    assert bool(((counts / 2000 - 0.4).abs() < spread).all()) and float(counts.sum()) == 4000


@pytest.mark.parametrize("sharpness", [0.5, 1.5, 3.0])
def test_positive_covariance_lowers_entropy(sharpness: float) -> None:
    """Theorem of arXiv 2505.22617: Delta H = -eta Cov(log pi, pi A) for the policy gradient of a softmax."""
    expected = Expected.make(sharpness)
    made, covariance = stages("grpo", **PLAIN), expected.covariance(weighted=True)
    torch.testing.assert_close(expected.change(made, 1e-6) / 1e-6, -covariance, rtol=1e-3, atol=1e-6)
    assert agreement(expected.change(made, 1e-3), -covariance) > 0.995
    assert agreement(expected.change(made, 0.1), -covariance, at_least=1e-2) > 0.995
    # Clip-Cov and KL-Cov look at the covariance without pi, which the theorem has for the natural gradient
    assert agreement(expected.change(made, 0.1), -expected.covariance(weighted=False)) > 0.85


@pytest.mark.parametrize("sharpness", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("w_low", [0.2, 0.5, 1.0])
def test_dropping_tokens_of_high_covariance_raises_entropy(sharpness: float, w_low: float) -> None:
    """Clip-Cov with everything in its band dropped, against the same step with nothing dropped."""
    expected = Expected.make(sharpness)
    without = expected.change(stages("grpo", **PLAIN | {"eps_high": 1.0}), 0.1)
    made = stages("clip-cov", w_low=w_low, w_high=99.0, share=1.0)
    with_it = expected.change(made, 0.1)
    log = taken(made, expected.logits, expected.tokens, expected.advantage, 0.1)[1]
    (dropped,), (candidates,) = log.metrics["clip_cov/dropped"], log.metrics["clip_cov/candidates"]
    assert dropped == candidates > 0.01
    assert float(with_it.mean()) > 0 > float(without.mean())
    different = (with_it - without).abs() > 1e-12
    assert float((with_it > without)[different].double().mean()) > 0.98
    # a small share of them acts in the same direction, and dropping low covariance in the other
    few = expected.change(stages("clip-cov", w_low=w_low, w_high=99.0, share=0.01), 0.1)
    assert float(without.mean()) < float(few.mean()) < float(with_it.mean())
    low = expected.change(stages("clip-cov", w_low=-99.0, w_high=-w_low, share=1.0), 0.1)
    assert float(low.mean()) < float(without.mean())
