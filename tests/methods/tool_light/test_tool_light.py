"""Tool-Light: the most uncertain beginnings of steps, branches behind them, and pairs of branches."""

from __future__ import annotations

import math

import pytest
import torch

from harness.problems.problem import Verdict
from methods.tool_light import (
    best_prefixes,
    branch_steps,
    lengths_of,
    pairs_of,
    preference_loss,
    prefix_means,
)
from tests.helpers.rollouts import rollouts, tokens_of
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.golden import make_batch

RUN = ("method.step_end='[aeiou ]'", "method.prefix_lengths=1-2-4", "method.chains=2", "method.positions=2")


def test_a_step_by_hand() -> None:
    entropy = torch.tensor([[1.0] * 10 + [4.0] * 2])
    means = prefix_means(entropy, torch.tensor([12]), lengths_of("10-20-30-40-50"))
    assert means.tolist() == [[1.0, 1.5, 1.5, 1.5, 1.5]]
    score, which = best_prefixes(means)
    assert score.tolist() == [1.5] and which.tolist() == [1], "of equal ones the shortest, n = 20"
    assert branch_steps(torch.tensor([0.5, 2.0, 2.0, 1.0]), 3) == [1, 2, 3]


def test_equal_entropies_tie_whatever_is_rounded() -> None:
    entropy, length = torch.full((4, 70), 0.3), torch.tensor([70, 13, 57, 0])
    score, which = best_prefixes(prefix_means(entropy, length, lengths_of("10-20-30-40-50")))
    assert which.tolist() == [0] * 4 and score[3] == 0, "a step without a token is certain"
    assert branch_steps(score, 3) == [0, 1, 2]


def test_the_preference_loss_by_hand() -> None:
    assert float(preference_loss(torch.zeros(3))) == pytest.approx(math.log(2))
    assert float(preference_loss(torch.tensor([2.0]), 0.5)) == pytest.approx(math.log(1 + math.exp(-1)))


def test_branches_stand_behind_uncertain_beginnings() -> None:
    trainer = tiny_trainer(*RUN, "rollout.max_response_tokens=12", method="tool-light")
    batch, ((first, plain), (second, _)) = rollouts(trainer)
    assert first.n == 4 and second.n == 3 and 4 * 2 <= len(second.prompts) <= 4 * 2 * 2
    level, parent, cut = (batch.tags[name].long() for name in ("level", "parent", "cut"))
    assert int(level.sum()) == 3 * len(second.prompts) and int(parent.max()) == 1
    chains = plain.rows(plain.sample_B < 2)
    assert trainer.counters.extra_forward_tokens == int(chains.mask_BT.sum())
    for row in (level > 0).nonzero().flatten().tolist():
        (origin,) = (
            (batch.group_B == batch.group_B[row]) & (batch.sample_B == parent[row])
        ).nonzero().flatten().tolist()  # fmt: skip
        prompt, response = tokens_of(batch, origin)
        assert tokens_of(batch, row)[0] == prompt + response[: cut[row]]
        texts = [trainer.policy.decode([[i]])[0] for i in response]
        ends = [t for t, text in enumerate(texts) if set(text) & set("aeiou ")]
        starts = [0, *(t + 1 for t in ends)]
        kept = max(start for start in starts if start < max(int(cut[row]), 1))
        ended = not bool(batch.truncated_B[origin]) and cut[row] == len(response) - 1
        assert cut[row] - kept in (1, 2, 4) or cut[row] - 1 in ends or ended or cut[row] == len(response)


def test_pairs_are_of_one_cut() -> None:
    right = [True, True, False, False, True, False, False, True]
    batch = make_batch(
        torch.ones(8, 2), verdicts=tuple(Verdict("right" if r else "wrong") for r in right),
        tags={
            "level": torch.tensor([0.0, 1, 1, 1, 1, 1, 0, 1]),
            "parent": torch.tensor([-1.0, 0, 0, 0, 0, 0, -1, 0]),
            "cut": torch.tensor([0.0, 3, 3, 3, 3, 4, 0, 4]),
        },
    )  # fmt: skip
    entropy = torch.tensor([0.0, 2, 1, 3, 1, 1, 0, 1])
    assert pairs_of(batch, entropy) == [(4, 3), (7, 5)]


def test_a_pair_pulls_apart_what_it_compares() -> None:
    """At the reference the loss is ln 2; it falls within the updates of a step that has pairs."""
    run = (
        "train.lr=1e-2",
        "method.dpo_coef=10",
        "train.epochs=6",
        "train.minibatches=1",
        "method.branches=6",
    )
    metrics = tiny_trainer(*RUN, *run, "method.branches=6", method="tool-light").step()
    assert metrics["tool_light/pairs"] > 0 and metrics["tool_light/preference_loss"] < math.log(2) - 0.01
