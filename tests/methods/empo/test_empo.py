"""EMPO's rewards by hand, and the sign of its one-step entropy change."""

from __future__ import annotations

import math

import pytest
import torch

from harness.stages.answers import answer_entropy, clustered
from methods.empo import consensus
from tests.methods.support.tabular import PLAIN, Expected, change, entropy, stages

ONE = torch.zeros(4, dtype=torch.int64)
ANSWERS = ["a", "a", "b", None]
ANSWERED = torch.tensor([True, True, True, False])


def test_both_recipes_by_hand() -> None:
    cluster = clustered(ANSWERS, ONE)
    assert consensus(cluster, ONE, ANSWERED).tolist() == [0.5, 0.5, 0.25, 0.25]
    assert consensus(cluster, ONE, ANSWERED, "voting").tolist() == [1.0, 1.0, 0.0, 0.0]
    assert float(answer_entropy(cluster, ONE)[0]) == pytest.approx(1.0397, abs=1e-4)
    assert consensus(cluster, ONE, ANSWERED, "trl").tolist() == [0.5, 0.5, 0.25, 0.0]


def test_a_group_whose_answers_all_differ() -> None:
    cluster, everyone = clustered(["a", "b", "c", "d"], ONE), torch.ones(4, dtype=torch.bool)
    assert float(answer_entropy(cluster, ONE)[0]) == pytest.approx(math.log(4))
    assert consensus(cluster, ONE, everyone).tolist() == [0.25] * 4
    assert consensus(cluster, ONE, everyone, "voting").tolist() == [1.0] * 4
    assert consensus(cluster, ONE, everyone, "trl").tolist() == [0.0] * 4
    assert consensus(cluster, ONE, everyone, "share", 0.3).tolist() == [0.0] * 4


@pytest.mark.parametrize("sharpness", [0.5, 1.5, 3.0])
def test_it_lowers_the_entropy_of_a_policy_over_answers(sharpness: float) -> None:
    """What the paper sets out to do. One-token answers, each as often as it is likely: the reward is the
    answer's probability, and the expected step has dH = -Cov_pi(ln pi, pi (p - E p)), never above 0."""
    expected = Expected.make(sharpness)
    logits, tokens = expected.logits, expected.tokens
    reward = logits.softmax(1).gather(1, tokens)
    measured = change(stages("grpo", **PLAIN), logits, tokens, reward - reward.mean(1, keepdim=True), 1e-3)
    uneven = entropy(logits) < 2.07  # ln 8 = 2.079 is the uniform policy, where nothing changes
    assert bool((measured[uneven] < 0).all()) and int(uneven.sum()) > 500
