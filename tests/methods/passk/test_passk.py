"""The three rules on numbers worked out by hand, their expectations, and what they refuse."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from harness.problems.problem import Verdict
from harness.registry import methods as registry
from harness.util.errors import UserError
from methods.passk import best_advantage, max_at_k, pkpo_advantage, training_advantage
from tests.methods.support.pipeline import make_step


def values(*reward: float) -> Tensor:
    return torch.tensor(reward, dtype=torch.float64)


def test_the_sheet_s_numbers() -> None:
    assert training_advantage(values(1, 0, 0, 0), 2).tolist() == pytest.approx(
        [1, -1 / 3, -1 / 3, -1 / 3], rel=1e-5
    )
    graded = values(0.9, 0.5, 0.5, 0.1)
    assert best_advantage(graded).tolist() == pytest.approx([1.224741, 0, 0, 0], rel=1e-5)
    assert pkpo_advantage(graded, 2).tolist() == pytest.approx([1.6 / 6, 0.4 / 6, 0.4 / 6, 0])


def test_training_is_silent_where_nothing_is_left_to_gain() -> None:
    for right in (0, 5, 6, 8):
        reward = values(*[1.0] * right, *[0.0] * (8 - right))
        assert training_advantage(reward, 4).tolist() == [0] * 8
    assert bool(training_advantage(values(*[1.0] * 4, *[0.0] * 4), 4).any())


def test_training_with_one_draw_is_grpo_with_n_in_the_variance() -> None:
    reward = values(1, 0, 0, 1, 1)
    expected = (reward - reward.mean()) / (reward.std(correction=0) + 1e-6)
    assert training_advantage(reward, 1).tolist() == pytest.approx(expected.tolist())


def test_a_tie_at_the_top_gives_the_best_nothing() -> None:
    assert best_advantage(values(0.5, 0.5, 0.1)).tolist() == [0, 0, 0]
    assert best_advantage(values(1, 0, 0, 0), norm_by_std=False).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("estimator", ["loo-1", "loo", "raw"])
@pytest.mark.parametrize("k", [2, 3])
def test_pkpo_s_estimates_are_unbiased(k: int, estimator: str) -> None:
    """Over all groups of four draws from three rewards: sum of A_i times the score function of draw i is the
    gradient of the expected largest of k draws."""
    logits = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
    p, reward = logits.softmax(0), values(0.0, 0.4, 1.0)
    draws = list(product(range(3), repeat=k))
    best = sum(math.prod([p[i] for i in d]) * max(float(reward[i]) for i in d) for d in draws)
    (wanted,) = torch.autograd.grad(best, logits, retain_graph=True)
    found = torch.zeros(3, dtype=torch.float64)
    with torch.no_grad():
        for group in product(range(3), repeat=4):
            credit = pkpo_advantage(reward[list(group)], k, estimator)
            score = torch.eye(3, dtype=torch.float64)[list(group)] - p
            found += p[list(group)].prod() * (credit[:, None] * score).sum(0)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    assert float(max_at_k(values(0.0, 0.4, 1.0), 2)) == pytest.approx((0.4 + 1 + 1) / 3)


def test_a_group_smaller_than_k_and_rewards_beside_verdicts_are_refused_in_the_step() -> None:
    step = make_step()
    batch = step.batch.with_(reward_B=2 * step.batch.correct_B - 1)
    with pytest.raises(UserError, match="k=5 exceeds the 4 rollouts"):
        registry.load("passk@training")(k=5).stages().advantage(batch, step.ctx)
    with pytest.raises(UserError, match="passk@training needs rewards of 0 and 1"):
        registry.load("passk@training")().stages().advantage(batch, step.ctx)


def test_groups_without_a_gradient_are_counted() -> None:
    step = make_step()
    right = [True, False, False, False] * 4 + [True] * 4
    verdicts = tuple(Verdict("right" if r else "wrong") for r in right)
    batch = step.batch.with_(verdicts=verdicts, reward_B=torch.tensor(right).float())
    out = registry.load("passk@best")().stages().advantage(batch, step.ctx)
    assert out.metrics == {"passk/silent_groups": pytest.approx(0.2)}
