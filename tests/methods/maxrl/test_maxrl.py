"""MaxRL on numbers worked out by hand, the objective that its groups estimate, and what it refuses."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from harness.util.errors import UserError
from methods.maxrl import MeanNormalised, mean_normalised
from tests.methods.support.pipeline import make_step


def credit(reward: list[float], eps: float = 0.0) -> list[float]:
    values: list[float] = mean_normalised(
        torch.tensor(reward, dtype=torch.float64), torch.zeros(len(reward)), eps
    ).tolist()
    return values


def test_the_sheet_s_numbers() -> None:
    assert credit([1, 0, 0, 0]) == [3, -1, -1, -1]
    assert credit([1, 1, 0, 0]) == [1, 1, -1, -1]
    assert credit([0.6, 0.2, 0, 0]) == pytest.approx([2, 0, -1, -1])
    assert credit([1, 1]) == credit([0, 0]) == [0, 0]
    assert credit([1.0, 0.0], eps=0.5) == [0.5, -0.5]


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_the_expectation_is_the_mixture_up_to_one_term_less_than_the_group(n: int, p: float) -> None:
    """Over all outcomes of a group: the gradient of sum_k -(1 - p)^k / k, k < N. A right draw has the score
    function 1 - p in the logit and a wrong one -p, so that dp = p (1 - p)."""
    expected = 0.0
    for outcome in product((0.0, 1.0), repeat=n):
        chance = math.prod(p if right else 1 - p for right in outcome)
        score = [1 - p if right else -p for right in outcome]
        expected += chance * sum(a * s for a, s in zip(credit(list(outcome)), score, strict=True)) / n
    mixture = sum((1 - p) ** (k - 1) for k in range(1, n))
    assert expected == pytest.approx(mixture * p * (1 - p), rel=1e-6)


def test_a_negative_reward_is_refused_in_the_first_step() -> None:
    step = make_step()
    batch = step.batch.with_(reward_B=2 * step.batch.correct_B - 1)
    with pytest.raises(UserError, match="MaxRL needs rewards of 0 or more, and this step has -1"):
        MeanNormalised(0.0)(batch, step.ctx)
