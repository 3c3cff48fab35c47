"""Difficulty from verdicts; weights of a KL that follow it; statistics of the likeliest tokens."""

from __future__ import annotations

import math

import pytest
import torch

from harness.model.logits import token_stats
from harness.stages.difficulty import KLRule, difficulty, difficulty_means
from harness.stages.token_stats import ENTROPY
from harness.stages.top_tokens import (
    TopEntropy,
    TopToken,
    following_mean,
    row_quantile,
    top_token_says,
    truncated_entropy,
)
from tests.methods.support.golden import make_batch
from tests.methods.support.pipeline import make_step


def test_thirds_are_of_the_easier_kind() -> None:
    correct = torch.tensor([1.0, 1, 0, 1, 0, 0, 0, 0, 0])
    group = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    assert difficulty(correct, group).tolist() == [0] * 3 + [1] * 3 + [2] * 3
    values = torch.tensor([[1.0, 3.0], [5.0, 99.0], [7.0, 7.0]])
    means = difficulty_means(values, torch.tensor([[1, 1], [1, 0], [1, 1]]), torch.tensor([0, 0, 2]))
    assert means == [3.5, None, 7.0]


def test_a_weight_follows_the_averages_of_its_own_kl() -> None:
    rule = KLRule(target=0.01, interval=2)
    state = rule.adapted(rule.first(), [0.02, 0.0101, None])
    assert state.beta == [1.0] * 3 and state.kl == [0.02, 0.0101, None]
    state = rule.adapted(state, [0.03, 0.0101, 0.0])
    average = 0.97 * 0.02 + 0.03 * 0.03
    error = 0.03 * (average / 0.01 - 1)
    assert state.kl[0] == pytest.approx(average) and state.error[0] == pytest.approx(error)
    # within 2 % of the target nothing moves; a first KL of 0 has the error -1
    assert state.beta == pytest.approx([math.exp(0.05 * error), 1.0, math.exp(-0.05 * 0.03)])
    far = KLRule(interval=1, rate=100.0).adapted(rule.first(), [1e9, 0.0, None])
    assert far.beta == pytest.approx([100.0, max(math.exp(-3.0), 1e-4), 1.0])


def test_entropies_of_the_likeliest_tokens() -> None:
    logits, target = torch.randn(6, 30), torch.zeros(6, dtype=torch.long)
    stats = (TopEntropy(k=3), TopEntropy(k=3, tail=True), TopEntropy(k=50), TopToken(), ENTROPY)
    found = token_stats(logits, torch.eye(30), target, stats)
    p = logits.softmax(1).sort(1, descending=True).values
    kept, rest = -(p[:, :3] * p[:, :3].log()).sum(1), p[:, 3:].sum(1)
    torch.testing.assert_close(found["entropy_top3"], kept)
    torch.testing.assert_close(found["entropy_top3+"], kept - rest * rest.log(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["entropy_top50"], found["entropy"], rtol=1e-4, atol=1e-5)
    assert found["top_token"].tolist() == logits.argmax(1).tolist()
    certain = torch.tensor([[0.0, -math.inf]])
    assert truncated_entropy(certain[:, :1], tail=True).tolist() == [0.0]
    assert truncated_entropy(certain).tolist() == truncated_entropy(certain, tail=True).tolist() == [0.0]


def test_means_over_what_follows() -> None:
    value = torch.tensor([[9.0, 1, 3, 5], [9.0, 1, 99, 99]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    mean, whole = following_mean(value, mask, 2)
    assert mean.tolist() == [[2.0, 4.0, 0.0, 0.0], [0.0] * 4]
    assert whole.tolist() == [[True, True, False, False], [False] * 4]
    assert not bool(following_mean(value, mask, 4)[1].any())
    assert row_quantile(value, mask, 50.0).tolist() == [4.0, 5.0]


def test_words_are_looked_for_in_the_likeliest_token() -> None:
    step = make_step()
    likeliest = torch.tensor([[1.0, 4.0, 3.0]])  # "b,", "d e", "."
    batch = make_batch(torch.tensor([[1, 1, 0]]), old={"top_token": likeliest})
    assert top_token_says(batch, step.ctx, "b, .").tolist() == [[True, False, False]]


def test_a_lone_rollout_is_as_easy_as_it_was_right() -> None:
    assert difficulty(torch.tensor([1.0, 0.0]), torch.tensor([4, 2])).tolist() == [0, 2]
