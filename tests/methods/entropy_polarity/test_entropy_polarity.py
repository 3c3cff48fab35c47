"""Signs and sizes that the paper derives, measured on tabular softmax policies."""

from __future__ import annotations

import pytest
import torch

from methods.entropy_polarity import FACTOR, polarity, polarity_weights
from tests.methods.support.tabular import PLAIN, Draws, agreement, change, entropy, stages


@pytest.mark.parametrize("spread", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("moved", [0.0, 0.3])
def test_polarity_predicts_each_tokens_entropy_change(spread: float, moved: float) -> None:
    """Sign and size: eta r A T to first order, r the ratio to the policy that drew."""
    draws = Draws.make(spread, moved=moved)
    ratio = (draws.logp(draws.logits) - draws.logp(draws.old)).exp()
    predicted = ratio * draws.advantage[:, 0] * FACTOR.compute(draws.logits, draws.tokens[:, 0])
    made = stages("grpo", **PLAIN)
    torch.testing.assert_close(draws.change(made, 1e-6) / 1e-6, predicted, rtol=1e-3, atol=1e-5)
    assert agreement(draws.change(made, 1e-4), predicted) > 0.998
    assert agreement(draws.change(made, 0.1), predicted, at_least=1e-3) > 0.97
    assert {1.0, -1.0} <= set(predicted.sign().tolist())


def test_a_likely_token_that_is_rewarded_contracts_and_an_unlikely_one_expands() -> None:
    """The asymmetry that the paper names; the two-action numbers are worked out by hand."""
    logits = torch.tensor([[0.8, 0.2], [0.8, 0.2]], dtype=torch.float64).log()
    tokens, advantage = torch.tensor([[0], [1]]), torch.ones(2, 1, dtype=torch.float64)
    measured = change(stages("grpo", **PLAIN), logits, tokens, advantage, 1e-6) / 1e-6
    torch.testing.assert_close(measured, torch.tensor([-0.088723, 0.354891]).double(), rtol=1e-4, atol=1e-6)
    draws = Draws.make(1.5)
    expanding = FACTOR.compute(draws.logits, draws.tokens[:, 0]) > 0
    likely = draws.logp(draws.logits) > -entropy(draws.logits)
    assert float(expanding[likely].double().mean()) < 0.3 < 0.7 < float(expanding[~likely].double().mean())


@pytest.mark.parametrize("shift", [0.5, -0.5])
def test_weight_on_expanding_tokens_raises_entropy(shift: float) -> None:
    """Weight moved to tokens of P > 0 raises what a step does to entropy, to P < 0 it lowers it."""
    draws = Draws.make(1.5)
    factor = FACTOR.compute(draws.logits, draws.tokens[:, 0])[:, None]
    weight = polarity_weights(polarity(factor, draws.advantage, torch.ones_like(factor)), shift)
    plain = draws.change(stages("grpo", **PLAIN), 1e-4)
    moved = change(stages("grpo", **PLAIN), draws.logits, draws.tokens, weight * draws.advantage, 1e-4)
    assert float(((moved - plain) * shift > 0).double().mean()) > 0.99
