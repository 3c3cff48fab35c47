"""G2RPO on numbers worked out by hand: quantiles, ties across prompts, and what its band pulls to."""

from __future__ import annotations

from statistics import NormalDist

import pytest
import torch

from harness.registry import methods as registry
from methods.g2rpo import gaussian_advantage, normal_quantiles, to_normal
from tests.methods.support.pipeline import make_step
from tests.methods.support.tabular import PLAIN, Expected, change, stages, taken


def advantage(*groups: list[float]) -> list[float]:
    reward = torch.tensor([r for group in groups for r in group], dtype=torch.float64)
    number = torch.tensor([i for i, group in enumerate(groups) for _ in group])
    found: list[float] = gaussian_advantage(reward, number).tolist()
    return found


def test_the_sheet_s_numbers() -> None:
    assert normal_quantiles(4).tolist() == pytest.approx([-1.150349, -0.318639, 0.318639, 1.150349], abs=1e-6)
    assert advantage([1, 0, 0, 0]) == pytest.approx([1.150349] + [-0.383450] * 3, abs=1e-6)
    assert to_normal(torch.tensor([3.0])).tolist() == [0]


def test_a_wrong_answer_s_advantage_depends_on_other_prompts() -> None:
    """The zeros of a prompt with one right answer rank above those of a prompt with three."""
    both = advantage([1, 0, 0, 0], [1, 1, 1, 0])
    assert both[1] == both[2] == both[3] > both[7]
    assert both[0] > both[4] and sum(both) == pytest.approx(0, abs=1e-6)
    twice = advantage([1, 0, 0, 0], [0, 0, 1, 0])
    assert twice[:4] == pytest.approx([twice[i] for i in (6, 4, 5, 7)])


def test_groups_of_equal_rewards_are_dropped_because_they_would_get_an_advantage() -> None:
    """All right and all wrong tie in the middle of the batch, which five rows are below and three above."""
    moved = advantage([1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0])
    middle = sum(NormalDist().inv_cdf((i - 0.5) / 16) for i in range(6, 14)) / 8
    assert middle > 0.1 and moved[:8] == pytest.approx([middle] * 8, abs=1e-6)
    step = make_step()
    kept = registry.load("g2rpo")().stages().group_filter(step.batch, step.ctx).value
    right = step.batch.correct_B.reshape(-1, 4).mean(1)
    assert kept.reshape(-1, 4)[:, 0].tolist() == [0 < share < 1 for share in right.tolist()]


@pytest.mark.parametrize(("low", "high"), [(50.0, 60.0), (0.0, 0.0)])
def test_the_band_pulls_nowhere_in_expectation_and_by_the_draw_in_a_step(low: float, high: float) -> None:
    expected = Expected.make(1.5)
    made = stages("g2rpo", **PLAIN, entropy_coef=1.0, entropy_low=low, entropy_high=high)
    nothing = torch.zeros(expected.tokens.shape, dtype=torch.float64)
    moved, _ = taken(made, expected.logits, expected.tokens, nothing, 1.0)
    torch.testing.assert_close(moved, expected.logits, rtol=0, atol=1e-9)
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(100, 8, generator=g, dtype=torch.float64)
    usual = logits.argmax(1, keepdim=True)
    entropy = change(made, logits, usual, torch.zeros(100, 1).double(), 1e-3)
    assert bool((entropy > 0).all() if low else (entropy < 0).all()), "below the band draws are pushed down"
