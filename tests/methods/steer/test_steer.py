"""The signs of STEER's metric, measured on tabular softmax policies."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.methods.support.tabular import PLAIN, Draws, agreement, stages, taken


@pytest.mark.parametrize("spread", [0.5, 2.0])
@pytest.mark.parametrize("eta", [1e-5, 0.02])
def test_steers_metric_has_the_sign_of_the_change_of_two_actions(spread: float, eta: float) -> None:
    """With two actions it is -2 eta p Omega to first order, so entropy falls where Omega > 0."""
    draws = Draws.make(spread, actions=2)
    measured = draws.change(stages("grpo", **PLAIN), eta)
    predicted = -2 * draws.logp(draws.logits).exp() * draws.steer_metric()
    assert agreement(measured, predicted, at_least=5e-2 if eta > 1e-3 else 1e-3) == 1
    if eta < 1e-3:
        torch.testing.assert_close(measured / eta, predicted, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(("spread", "share"), [(0.5, 0.82), (1.5, 0.82), (3.0, 0.88)])
def test_steers_metric_mostly_has_the_sign_with_many_actions(spread: float, share: float) -> None:
    """It leaves out the correction over the other actions; signs of small changes are wrong then."""
    draws = Draws.make(spread)
    measured, metric = draws.change(stages("grpo", **PLAIN), 1e-4), draws.steer_metric()
    right = measured.sign() == -metric.sign()
    assert share < float(right.double().mean()) < 0.97
    assert float(measured[right].abs().sum() / measured.abs().sum()) > 0.93


@pytest.mark.parametrize("mode", [{}, {"mode": "linear", "w_min": 0.7, "w_max": 1.3}])
def test_steer_takes_weight_from_the_tokens_that_change_entropy_most(mode: dict[str, Any]) -> None:
    """The total change falls by more than the mean weight: what a smaller step alone would not do."""
    draws = Draws.make(1.5)
    bounds = {"eps_low": 0.99, "eps_high": 9.0, "dual_clip": None}
    made = stages("steer", **bounds, **mode)
    measured = draws.change(made, 1e-4).abs().sum() / draws.change(stages("grpo", **PLAIN), 1e-4).abs().sum()
    moved, log = taken(made, draws.logits, draws.tokens, draws.advantage, 1e-4)
    assert float(measured) < 0.98 * log.metrics["steer/weight_mean"][0]
