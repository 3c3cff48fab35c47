"""SPEAR's figures by hand, what is stored and replayed, and a replay in a real run that is resumed."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from harness.problems.problem import Verdict
from harness.stages.base import StepContext
from harness.stages.batch import Batch
from harness.stages.filters import repeats, widest_groups
from methods.spear import (
    Successes,
    Usable,
    above,
    imitation_coefficient,
    is_full,
    median,
    recalibrated,
    replay_size,
    tool_coefficient,
    worth_keeping,
)
from tests.helpers.states import plainly
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.golden import make_batch, plain_context

CTX = plain_context(torch.ones(1, 4), prompts_per_step=2, group_size=4)


def test_a_replay_by_hand() -> None:
    mean = median(torch.tensor([0.2, -0.5, 0.6], dtype=torch.float64))
    reward, mask = torch.tensor([1.0, -1, 0.3], dtype=torch.float64), torch.ones(3, 2)
    advantage = recalibrated(reward, mask, mean)
    assert float(mean) == 0.2 and advantage[:, 0].tolist() == pytest.approx([0.8, -1.2, 0.1])
    assert worth_keeping(advantage).tolist() == [True, False, True] == above(reward, mean).tolist()
    assert [replay_size(kept, 8) for kept in (0, 1, 2, 3, 7, 8, 40)] == [0, 0, 2, 2, 4, 8, 8]
    assert replay_size(40, 6) == 6
    assert imitation_coefficient(100, 1.0, 200) == pytest.approx(0.5)
    assert tool_coefficient(50, 100) == pytest.approx(0.5)
    assert (imitation_coefficient(201, 0.7, 200), tool_coefficient(101, 100)) == (0.7, 0.0)
    assert is_full(13, 8) and not is_full(12, 8)


def test_the_widest_groups_and_the_first_of_equal_ones() -> None:
    group = torch.tensor([5] * 4 + [2] * 4 + [7] * 4 + [9] * 4)
    reward = torch.tensor([1.0, -1, -1, -1, 1, 1, 1, 1, 1, -1, 1, -1, 1, 1, 1, -1])
    assert torch.unique(group[widest_groups(reward, group, 0.75)]).tolist() == [5, 7, 9]
    assert torch.unique(group[widest_groups(reward, group, 0.5)]).tolist() == [5, 7]


def test_what_does_not_train() -> None:
    assert repeats([1, 2] * 20, n=2) and not repeats([1, 2] * 9, n=2) and not repeats([1] * 28)
    assert repeats([7] * 29)
    wide = torch.ones(5, 30)
    ids = torch.stack([torch.arange(30), torch.full((30,), 7), *[torch.arange(30)] * 3])
    batch = make_batch(
        wide, response_BT=ids, truncated_B=torch.tensor([False, False, True, False, False]),
        texts=("", "", "", "a \ufffd", ""),
        verdicts=tuple(Verdict("wrong", None if i == 4 else "1") for i in range(5)),
    )  # fmt: skip
    assert Usable()(batch).tolist() == [True, False, False, False, False]
    assert Usable(overlong=False, repetitive=False)(batch).tolist() == [True, True, True, False, False]
    assert bool(Usable(False, False, False, False)(batch).all())


def stored(step: int, right: list[int], *, groups: int = 2) -> tuple[Batch, StepContext]:
    """Rows of groups of four of which so many are right, as a step gives them to its components."""
    reward = torch.tensor([1.0 if i < n else -1.0 for n in right for i in range(4)])
    mask = torch.ones(4 * groups, 4)
    advantage = reward - reward.reshape(groups, 4).mean(1).repeat_interleave(4)
    batch = make_batch(
        mask, group_B=torch.arange(groups).repeat_interleave(4), reward_B=reward, old={"logp": -mask},
        advantage_BT=advantage[:, None] * mask, verdicts=(Verdict("right", "1"),) * len(mask),
    )  # fmt: skip
    return batch, dataclasses.replace(CTX, step=step)


def memory(**options: object) -> Successes:
    settings = {
        "usable": Usable(), "share": 0.5, "tolerate": 2, "baseline_steps": 8, "normed": False,
        "stored_weight": None,
    }  # fmt: skip
    return Successes(**{**settings, **options})  # type: ignore[arg-type]


def test_successes_are_stored_and_replayed_once_there_are_enough() -> None:
    own = memory()
    for step, right, n in ((1, [2, 0], 2), (2, [3, 4], 5), (3, [1, 1], 7)):
        batch, ctx = stored(step, right)
        assert own.replayed(batch, ctx) is None
        assert own.before_update(batch, ctx)["spear/stored"] == n  # an all-right group has A = 0
    assert own.medians()[0] == pytest.approx(-0.25)  # of 0, -1, 0.5, 1, -0.5, -0.5
    batch, ctx = stored(4, [0, 1])
    replays = own.replayed(batch, ctx)
    assert replays is not None and len(replays) == 4  # the largest power of two in seven, at most N = 4
    assert replays.advantages().tolist() == [[1.25] * 4] * 4
    assert replays.old["logp"].tolist() == [[-1.0] * 4] * 4
    assert own.before_update(batch, ctx)["spear/stored"] == 1  # emptied, then this step's success


def test_rows_age_and_the_window_of_the_median_moves() -> None:
    own = memory(tolerate=1, baseline_steps=1)
    for step in (1, 2, 3, 4):
        batch, ctx = stored(step, [0, 0] if step == 3 else [1, 0])
        own.before_update(batch, ctx)
    assert own.buffer.step_N.tolist() == [
        1,
        2,
        4,
    ]  # measured from the newest that is stored, before it is added
    assert [step for step, _, _ in own.history] == [3, 4]
    own.before_update(*stored(5, [1, 0]))
    assert own.buffer.step_N.tolist() == [4, 5]


def test_the_stored_advantage_can_be_replayed_instead() -> None:
    own = memory(stored_weight=0.5)
    for step in (1, 2, 3):
        own.before_update(*stored(step, [2, 1]))
    replays = own.replayed(*stored(4, [0, 0]))
    assert replays is not None and len(replays) == 4
    assert set(replays.advantages()[:, 0].tolist()) <= {0.5, 0.75}


SMALL = (
    "method.replay_share=0.07", "method.w_low=0.1", "method.drop_overlong=false", "train.epochs=1",
    "train.steps=8",
    "method.drop_unreadable=false",
)  # fmt: skip


def test_a_replay_in_a_run_resumed_from_its_checkpoint() -> None:
    trainer = tiny_trainer(*SMALL, method="spear")
    for _ in range(7):
        state = copy.deepcopy(trainer.state_dict())
        metrics = trainer.step()
        if metrics.get("spear/rows", 0.0):
            break
    step = trainer.counters.step
    assert step > 1 and metrics["spear/coefficient"] == imitation_coefficient(step, 1.0, 200)
    assert metrics["updates"] == 3 and metrics["activity"] > 0
    again = tiny_trainer(*SMALL, method="spear")
    again.load_state_dict(state)
    assert again.step() == metrics
    weights = again.policy.weights()
    assert all(torch.equal(weights[k], v) for k, v in trainer.policy.weights().items())
    assert plainly(again.rest_dict()["components"]) == plainly(trainer.rest_dict()["components"])
