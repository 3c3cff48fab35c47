"""QAE on numbers worked out by hand, and what its baseline keeps out of a step."""

from __future__ import annotations

import pytest
import torch

from methods.qae import quantile_advantage, quantile_baseline
from tests.methods.support.tabular import PLAIN, change, entropy, stages


def credit(reward: list[float], k: float = 0.4, ddof: int = 0) -> list[float]:
    value = torch.tensor(reward, dtype=torch.float64)
    found: list[float] = quantile_advantage(value, torch.zeros(len(reward)), k, ddof=ddof).tolist()
    return found


def baseline(reward: list[float], k: float) -> float:
    return float(quantile_baseline(torch.tensor(reward), torch.zeros(len(reward)), k)[0])


def test_the_sheet_s_numbers() -> None:
    assert credit([1, 0, 0, 0]) == pytest.approx([2.309401, 0, 0, 0])
    assert credit([1, 0, 0, 0], ddof=1) == pytest.approx([2, 0, 0, 0])
    assert credit([1, 1, 1, 0]) == pytest.approx([0, 0, 0, -2.309401])
    assert credit([1, 1, 1, 1]) == credit([0, 0, 0, 0]) == [0, 0, 0, 0]


def test_the_edge_of_the_rule_is_counted() -> None:
    """p = 1 - K is hard, though 0.2 <= 1 - 0.8 does not hold in floats."""
    assert not 0.2 <= 1 - 0.8
    assert baseline([1, 0, 0, 0, 0], 0.8) == 0
    assert baseline([1, 1, 0, 0, 0], 0.8) == 1
    assert baseline([1, 1, 0, 0], 0.5) == 0
    assert baseline([1, 1, 0, 0], 0.51) == 1


def test_graded_rewards_are_not_interpolated() -> None:
    assert [baseline([0.1, 0.9, 0.5, 0.3], k) for k in (0.2, 0.25, 0.26, 0.6, 0.9)] == pytest.approx(
        [0.1, 0.1, 0.3, 0.5, 0.9]
    )


def test_what_the_mean_as_a_baseline_does_to_entropy_and_a_quantile_does_not() -> None:
    """A hard prompt's usual wrong answer is pushed down by the mean, which raises the entropy; an easy
    prompt's usual right answer is pushed up, which lowers it. The quantile leaves both alone."""
    g = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(200, 8, generator=g, dtype=torch.float64)
    usual = logits.argmax(1, keepdim=True)
    for group, row, sign in (([1, 0, 0, 0], 1, 1), ([1, 1, 1, 0], 0, -1)):
        reward = torch.tensor(group, dtype=torch.float64)
        mean = (reward[row] - reward.mean()).expand(len(logits), 1)
        moved = change(stages("grpo", **PLAIN), logits, usual, mean, 1e-3)
        assert bool((sign * moved > 0).all()) and bool((entropy(logits) > 0).all())
        assert credit([float(r) for r in group])[row] == 0
