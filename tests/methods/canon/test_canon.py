"""CANON on numbers worked out by hand: halves, mixtures, schedules."""

from __future__ import annotations

import pytest
import torch

from harness.registry import methods as registry
from harness.util.errors import UserError
from methods.canon import conditional_advantage, cosine_cycles, scheduled_mu
from tests.methods.support.pipeline import make_step


def credit(reward: list[float], metric: list[float], mu: float, **options: float | bool) -> list[float]:
    value, by = (torch.tensor(v, dtype=torch.float64) for v in (reward, metric))
    found: list[float] = conditional_advantage(value, by, mu, **options).tolist()  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    ("mu", "expected"),
    [(1, [-1, 0, 0.5, 0.5]), (0, [-0.5, 0.5, 0, 0]), (0.5, [-0.75, 0.25, 0.25, 0.25])],
)
def test_the_sheet_s_numbers(mu: float, expected: list[float]) -> None:
    assert credit([0, 1, 1, 1], [0.1, 0.2, 0.3, 0.4], mu) == pytest.approx(expected)


def test_ties_keep_their_order_and_the_upper_half_is_the_larger_one() -> None:
    assert credit([1, 0, 0], [5, 5, 5], 1) == [1, -1, -1]
    assert credit([1, 0, 0], [5, 6, 4], 1) == [1, 0, -0.5]


def test_alpha_discounts_the_low_entropy_half_or_the_long_one() -> None:
    """One rollout a half, both right; beta goes to the upper half."""
    assert credit([1, 1], [1, 2], 1, alpha=0.8) == pytest.approx([-0.2, 0.2])
    assert credit([1, 1], [1, 2], 1, alpha=0.8, long=True) == pytest.approx([0.2, -0.2])
    assert credit([1, 1], [1, 2], 1, beta=0.1) == pytest.approx([-0.1, 0.1])
    assert credit([1.0], [3.0], 0.4, beta=0.5) == pytest.approx([1.2])


def test_the_schedules() -> None:
    assert cosine_cycles(0, 0.6, 0.2) == pytest.approx(0.02)
    assert cosine_cycles(29, 0.6, 0.2) == cosine_cycles(30, 0.6, 0.2) == 0.6
    assert cosine_cycles(50, 0.6, 0.2) == pytest.approx(0.4)
    assert cosine_cycles(70, 0.6, 0.2) == cosine_cycles(150, 0.6, 0.2) == 0.6
    assert scheduled_mu("intra-first", 0.3, 30, 0.0) == pytest.approx(0.4)
    assert scheduled_mu("inter-first", 0.3, 30, 0.0) == 1
    assert scheduled_mu("anneal", 0.3, 30, 0.7) == 0.7
    assert scheduled_mu("constant", 0.3, 30, 0.7) == 0.3


def test_a_mean_reward_that_is_no_weight_is_refused_in_the_step() -> None:
    step, stage = make_step(), registry.load("canon")(schedule="anneal", metric="length").stages().advantage
    assert stage(step.batch.with_(reward_B=step.batch.correct_B), step.ctx).metrics["canon/mu"] > 0
    with pytest.raises(UserError, match="takes the mean reward as mu, and this step's is -2"):
        stage(step.batch.with_(reward_B=step.batch.correct_B * 0 - 2), step.ctx)
