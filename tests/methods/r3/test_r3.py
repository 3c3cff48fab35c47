"""R^3's figures by hand, what joins which group, and a run whose prompts come again, resumed on the way."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch

from harness.problems.problem import Problem
from harness.stages.batch import Batch
from harness.train.trainer import Trainer
from harness.util.errors import UserError
from methods.r3 import (
    WORDS,
    Experience,
    OppositeReplays,
    PooledPrompts,
    ReplayedRatio,
    dominated,
    length_bonus,
    mixed_advantage,
    ranked_rewards,
    reflecting,
)
from tests.helpers.states import plainly
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.golden import make_batch, plain_context
from tests.methods.support.pipeline import make_step, plan_of
from tests.methods.support.registered import make

CTX = plain_context(torch.ones(1, 4), prompts_per_step=3, group_size=4)


def test_the_figures_by_hand() -> None:
    scores = dominated(torch.tensor([3.0, 2, 1]), torch.tensor([0.2, 0.3, 0.4]))
    assert scores.tolist() == [2, 1, 0] and ranked_rewards(scores, 1.0).tolist() == [1, 0.5, 0]
    assert ranked_rewards(torch.tensor([0, 0, 0]), 0.4).tolist() == pytest.approx(
        [0.4, 0.2, 0]
    )  # ties in order
    assert ranked_rewards(torch.tensor([0]), 0.4).tolist() == [0]
    reward = torch.tensor([0.0, 0, 0, 0, 1], dtype=torch.float64)
    group, mixed = torch.zeros(5), torch.ones(5, dtype=torch.bool)
    plain = mixed_advantage(reward, group, mixed, 1.0, 0.0)
    assert plain.tolist() == pytest.approx([-0.447214] * 4 + [1.788854], abs=1e-6)
    assert torch.allclose(mixed_advantage(reward, group, mixed, 2.0, 0.0), plain / 2)
    assert torch.equal(mixed_advantage(reward, group, ~mixed, 2.0, 0.0), plain)
    assert length_bonus(torch.tensor([8.0, 32, 40]), 32).tolist() == [0.75, 0, 0]


def test_a_query_shows_the_failure_behind_the_question() -> None:
    chat = Problem("a", "<user>6 times 7?<assistant>", "42", {"question": "6 times 7?"})
    shown = reflecting(chat, "41", "words")
    assert shown.prompt == "<user>6 times 7?" + WORDS.format(quote="41") + "<assistant>"
    assert (shown.id, shown.answer) == ("a", "42")
    micro = reflecting(Problem("b", "S12/2="), "6+6", "again")
    assert micro.prompt == "S12/2=6+6S12/2="


def experience(*stored: tuple[str, list[bool]]) -> Experience:
    """What has been seen of some problems: responses with these verdicts, of one token each step."""
    own = Experience(PooledPrompts(None), 0, 100)
    for step, (problem, right) in enumerate(stored, 1):
        own.before_update(rollouts([(problem, right)]), dataclasses.replace(CTX, step=step))
    return own


def rollouts(groups: list[tuple[str, list[bool]]], **tags: Any) -> Batch:
    right = torch.tensor([r for _, verdicts in groups for r in verdicts]).float()
    mask = torch.ones(len(right), 4)
    group = torch.arange(len(groups)).repeat_interleave(len(groups[0][1]))
    batch = make_batch(
        mask, correct_B=right, reward_B=right.double(), group_B=group,
        problems=tuple(Problem(name, "?") for name, verdicts in groups for _ in verdicts),
        old={"logp": -mask * torch.arange(1, len(right) + 1)[:, None]}, advantage_BT=0.0 * mask.double(),
    )  # fmt: skip
    return batch.with_tags(row=torch.arange(len(right)), **tags)


def test_groups_of_equal_verdicts_are_joined_by_stored_opposites() -> None:
    own = experience(
        ("a", [True, False, False, False]), ("b", [False] * 4), ("c", [True, True, False, False])
    )
    selection = OppositeReplays(own, 0.5, 2.0, 0.0)
    batch = rollouts([("a", [False] * 4), ("b", [False] * 4), ("c", [True] * 4)])
    out = selection(batch, CTX).value
    joined = out.rows(torch.arange(12, len(out)))
    assert joined.group_B.tolist() == [0, 2, 2]  # one right of a, nothing of b, two wrong ones of c
    assert [p.id for p in joined.problems] == ["a", "c", "c"]
    assert joined.rewards().tolist() == [1, 0, 0]
    assert joined.old["logp"][:, 0].tolist() == [-1, -3, -4]  # as they were stored
    assert joined.tags["row"].tolist() == [12, 13, 14] and bool((joined.tags["extra"] > 0).all())
    by_hand = {
        0: mixed_advantage(torch.tensor([0.0, 0, 0, 0, 1]).double(), torch.zeros(5), torch.ones(5) > 0, 2, 0),
        2: mixed_advantage(
            torch.tensor([1.0, 1, 1, 1, 0, 0]).double(), torch.zeros(6), torch.ones(6) > 0, 2, 0
        ),
    }
    for group, wanted in by_hand.items():
        assert torch.allclose(out.advantages()[out.group_B == group][:, 0], wanted)
    assert not bool(out.advantages()[out.group_B == 1].any())


def test_what_is_not_joined() -> None:
    own = experience(("a", [True, False, False, False]))
    mixed = rollouts([("a", [True, False, False, True])])
    failed = rollouts([("a", [False] * 4)])
    reflected = failed.with_tags(reflection=torch.ones(4))
    assert len(OppositeReplays(own, 0.5, 2.0, 0.0)(failed, CTX).value) == 5
    for batch, share in ((mixed, 0.5), (reflected, 0.5), (failed, 0.0)):
        assert OppositeReplays(own, share, 2.0, 0.0)(batch, CTX).value is batch
    own.plain_passes = 1
    assert OppositeReplays(own, 0.5, 2.0, 0.0)(failed, CTX).value is failed


def test_a_replayed_ratio_of_the_moment_is_one() -> None:
    step = make_step(minibatches=1)
    batch = plan_of(make("grpo", {}), step)[0].batch
    batch = batch.with_tags(is_replay=(torch.arange(len(batch)) < 3).float())
    logp = (batch.old["logp"] + 0.3).requires_grad_()
    ratio = ReplayedRatio(fresh=True).ratio(batch, {"logp": logp})
    assert bool((ratio[:3] == 1).all()) and torch.allclose(
        ratio[3:], torch.tensor(0.3).double().exp(), atol=1e-6
    )
    assert float(torch.autograd.grad(ratio[0, 0], logp)[0][0, 0]) == 1
    stored = ReplayedRatio().ratio(batch, {"logp": logp})
    assert torch.allclose(stored, torch.full_like(stored, 0.3).exp())


def test_a_pool_is_drawn_by_the_seed_and_must_be_there() -> None:
    problems = [Problem(str(i), "?") for i in range(40)]

    def ids(seed: int) -> set[str]:
        source = PooledPrompts(6)
        source.bind(problems, seed)
        drawn = [p.id for p in source.draw(12)]
        assert len(set(drawn[:6])) == 6 and source.passes == 1
        return set(drawn)

    assert ids(1) == ids(1) != ids(2)
    with pytest.raises(UserError, match="pool=41 exceeds the 40 problems.*lower it"):
        PooledPrompts(41).bind(problems, 1)


SMALL = (
    "method.plain_passes=1",
    "method.pool=4",
    "method.reflect_below=0.9",
    "train.epochs=1",
    "train.steps=6",
)


def run() -> Trainer:
    return tiny_trainer(*SMALL, "rollout.max_response_tokens=12", method="r3")


def test_a_run_replays_and_reflects_and_can_be_resumed() -> None:
    trainer = run()
    first = trainer.step()
    assert first["r3/at_work"] == 0 and first["rollouts"] == 16 and first["r3/replayed"] == 0
    generated, seen, state = trainer.counters.generated_tokens, [first], {}
    for _ in range(4):
        state = copy.deepcopy(trainer.state_dict())
        seen.append(trainer.step())
    assert (
        seen[1]["rollouts"] > 16 and seen[1]["r3/at_work"] == 1
    )  # reflection queries are groups of their own
    assert sum(m["r3/replayed"] for m in seen) > 0
    assert trainer.counters.generated_tokens - generated > 4 * generated  # and their tokens count
    again = run()
    again.load_state_dict(state)
    assert again.step() == seen[-1]
    weights = again.policy.weights()
    assert all(torch.equal(weights[k], v) for k, v in trainer.policy.weights().items())
    assert plainly(again.rest_dict()["components"]) == plainly(trainer.rest_dict()["components"])
