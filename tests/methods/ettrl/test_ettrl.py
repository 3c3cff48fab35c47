"""ETTRL's factor and its trees: what forks where, who votes, and what it is without forks."""

from __future__ import annotations

import pytest
import torch

from harness.stages.branching import highest_positions
from methods.ettrl import residual, response_entropy, trees_of
from tests.helpers.rollouts import rollouts, tokens_of
from tests.helpers.tiny import tiny_trainer

RUN = ("rollout.group_size=8", "rollout.prompts_per_step=2")


def test_the_factor_by_hand() -> None:
    h, advantage = torch.tensor([0.2, 0.4, 0.6]), torch.tensor([1.0, -0.5, -0.5])
    factor = residual(h, torch.zeros(3, dtype=torch.int64))
    assert factor.tolist() == pytest.approx([1.5, 1.0, 0.5])
    assert (factor * advantage).tolist() == pytest.approx([1.5, -0.5, -0.25])
    assert residual(torch.zeros(2), torch.zeros(2, dtype=torch.int64)).tolist() == [1.0, 1.0]
    pushed_back = residual(torch.tensor([0.1, 0.1, 1.0]), torch.zeros(3, dtype=torch.int64))
    assert float(pushed_back[2]) == pytest.approx(2 - 1 / 0.4) and pushed_back[2] < 0


def test_a_leaf_has_the_entropy_of_all_its_tokens() -> None:
    entropy, mask = torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]])
    assert response_entropy(entropy, mask).tolist() == [2.0]
    assert response_entropy(entropy, mask, torch.tensor([2.0]), torch.tensor([4.0])).tolist() == [1.0]


def test_numbers_of_trees() -> None:
    assert trees_of(60, 2, 2) == (12, 12) and trees_of(64, 2, 2) == (12, 16)
    assert trees_of(8, 0, 2) == (8, 8), "without forks every rollout is a tree of its own"
    tie = torch.tensor([[0.5, 2.0, 2.0, 1.0]])
    assert highest_positions(tie, torch.ones(1, 4, dtype=torch.bool), 2) == [[1, 2]]


def test_roots_fork_at_their_highest_entropies() -> None:
    trainer = tiny_trainer(*RUN, method="ettrl")
    batch, ((first, roots), (second, _)) = rollouts(trainer)
    assert first.n == 4 and second.n == 2 and len(second.prompts) == 2 * 2, (
        "one tree and three plain rollouts"
    )
    level, parent = batch.tags["level"], batch.tags["parent"]
    assert level.tolist() == ([0] + [1] * 4 + [0] * 3) * 2, "a tree's leaves stand together"
    entropy = roots.old["entropy"]
    for group in (0, 1):
        rows = (batch.group_B == group).nonzero().flatten().tolist()
        root = rows[0]
        prompt, response = tokens_of(batch, root)
        own = entropy[4 * group][: len(response)]
        places = own.argsort(descending=True, stable=True)[:2].tolist()
        for place, pair in zip(places, (rows[1:3], rows[3:5]), strict=True):
            for leaf in pair:
                assert parent[leaf] == 0 and tokens_of(batch, leaf)[0] == prompt + response[:place]
                assert float(batch.tags["prefix_entropy"][leaf]) == pytest.approx(
                    float(own[:place].sum()), rel=1e-5
                )
                text = trainer.policy.decode([[*response[:place], *tokens_of(batch, leaf)[1]]])[0]
                assert batch.texts[leaf] == text, "a vote is on the whole text"
    assert trainer.counters.generated_tokens == int(batch.mask_BT.sum())


def test_without_forks_it_samples_what_ttrl_samples() -> None:
    ours, theirs = (
        rollouts(tiny_trainer(*RUN, *own, method=name))[0]
        for name, own in (("ettrl", ("method.forks=0",)), ("ttrl", ()))
    )
    assert torch.equal(ours.response_BT, theirs.response_BT) and ours.texts == theirs.texts
