"""The replay buffer: what it keeps, its bound, what is taken, its state, and a replay as a second pass."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
import torch

from harness.problems.problem import Problem
from harness.stages.base import Minibatch, StepContext
from harness.stages.batch import Batch, concat
from harness.stages.defaults import ShuffledMinibatches
from harness.stages.loss import PolicyLoss
from harness.stages.replay import ReplayBuffer, ReplayPlan, as_replays, lean, subset, with_replays
from tests.helpers.states import plainly
from tests.methods.support.golden import plain_context
from tests.methods.support.pipeline import make_step, plan_of, update
from tests.methods.support.registered import make

CTX = plain_context(torch.ones(1, 6), prompts_per_step=5, group_size=4, minibatches=2)


def trained(seed: int = 0) -> Batch:
    """The rows of a step with rewards, old statistics and advantages, all in one minibatch."""
    step = make_step(seed, minibatches=1)
    return plan_of(make("grpo", {}), step)[0].batch


def first(batch: Batch, n: int, name: str) -> Batch:
    return batch.rows(torch.arange(n)).with_(problems=tuple(Problem(f"{name}{i % 2}", "?") for i in range(n)))


def test_the_bound_drops_the_oldest() -> None:
    buffer = ReplayBuffer(5)
    for step, name in ((1, "a"), (2, "b"), (3, "a")):
        buffer.add(first(trained(step), 2, name), step)
    assert len(buffer) == 5 and buffer.step_N.tolist() == [1, 2, 2, 3, 3]
    assert buffer.places("a1").tolist() == [0, 4] and buffer.places("a0").tolist() == [3]
    assert buffer.places("nobody").tolist() == []
    buffer.add(first(trained(4), 12, "c"), 4)
    assert len(buffer) == 5 and set(buffer.step_N.tolist()) == {4}
    with pytest.raises(ValueError, match="at least one row"):
        ReplayBuffer(0)


def test_rows_come_back_as_they_went_in() -> None:
    buffer, batch = ReplayBuffer(100), trained()
    buffer.add(batch.with_tags(level=torch.arange(len(batch)).float()), 3)
    index = torch.tensor([7, 2])
    back, there = buffer.read(index), batch.rows([2, 7]).trimmed()
    for name in ("prompt_BP", "response_BT", "mask_BT", "rollout_logp_BT", "reward_B", "advantage_BT"):
        assert torch.equal(getattr(back, name), getattr(there, name)), name
    assert torch.equal(back.old["logp"], there.old["logp"]) and set(back.old) == {"logp"}
    assert back.tags["level"].tolist() == [2, 7] and "grpo_advantage" not in back.tags
    assert back.problems == there.problems and back.verdicts == there.verdicts
    assert len(buffer) == len(batch)
    assert torch.equal(buffer.reward_N, batch.rewards())
    with pytest.raises(ValueError, match="ask for its places first"):
        buffer.read(torch.empty(0, dtype=torch.int64))


def test_a_row_owns_its_memory() -> None:
    """A view of a wide column would carry the whole column into every checkpoint."""
    batch = trained()
    short = lean(batch.rows(batch.length_B <= 2))
    assert short.response_BT.shape[1] == 2
    for value in (short.response_BT, short.mask_BT, short.advantages(), short.old["logp"]):
        assert value.untyped_storage().nbytes() == value.numel() * value.element_size()


def test_taking_removes_and_age_drops() -> None:
    buffer = ReplayBuffer(100)
    for step in (1, 2, 4):
        buffer.add(first(trained(step), 6, f"s{step}-"), step)
    taken = buffer.take(torch.tensor([0, 7]))
    assert [p.id for p in taken.problems] == ["s1-0", "s2-1"]
    assert len(buffer) == 16 and buffer.places("s1-0").tolist() == [1, 3]
    buffer.drop_before(2)
    assert buffer.step_N.tolist() == [2] * 5 + [4] * 6
    buffer.remove(buffer.reward_N < 2)
    assert len(buffer) == 0 and buffer.reward_N.tolist() == []
    buffer.add(first(trained(), 2, "x"), 5)
    buffer.clear()
    assert len(buffer) == 0 and buffer.places().tolist() == [] and buffer.places("x0").tolist() == []


def test_a_subset_hangs_on_its_generator_alone() -> None:
    places = torch.tensor([3, 5, 6, 9, 11])
    drawn = [subset(places, 3, torch.Generator().manual_seed(s)).tolist() for s in range(400)]
    assert drawn[7] == subset(places, 3, torch.Generator().manual_seed(7)).tolist()
    counts = torch.tensor([sum(p in d for d in drawn) for p in places.tolist()])
    assert all(len(set(d)) == 3 and d == sorted(d) for d in drawn)
    assert bool(((counts - 240).abs() < 50).all())  # five standard deviations of 9.8
    assert subset(places, 9, torch.Generator()).tolist() == places.tolist()


def test_state_survives_to_the_bit() -> None:
    buffer, other = ReplayBuffer(30), ReplayBuffer(30)
    for step in (1, 2):
        buffer.add(trained(step), step)
    stream = io.BytesIO()
    torch.save(buffer.state_dict(), stream)
    stream.seek(0)
    other.load_state_dict(torch.load(stream, weights_only=True))
    for step in (3, 4):  # and both go on alike
        mine, theirs = (plainly(b.state_dict()) for b in (buffer, other))
        assert mine == theirs == json.loads(json.dumps(mine))
        assert len(other) == 30 and torch.equal(
            other.read(other.places()).mask_BT, buffer.read(buffer.places()).mask_BT
        )
        for one in (buffer, other):
            one.add(trained(step), step)


def test_replays_have_numbers_of_their_own_and_join_their_step() -> None:
    batch, buffer = trained(), ReplayBuffer(100, None)
    buffer.add(trained(1).rows(torch.arange(6)), 1)
    replays = as_replays(buffer.read(buffer.places()), batch)
    assert replays.tags["row"].tolist() == list(range(20, 26))
    assert replays.group_B.tolist() == [5] * 4 + [6] * 2
    for name, value in (("is_replay", 1.0), ("extra", 1.0), ("judged", 0.0), ("grpo_advantage", 0.0)):
        assert replays.tags[name].tolist() == [value] * 6
    both, bare = with_replays(batch, replays), batch.with_(token_tags={})
    assert both.tags["is_replay"].tolist() == [0.0] * 20 + [1.0] * 6
    assert torch.equal(both.train_mask_BT, concat([bare, replays.with_(loss_mask_BT=None)]).mask_BT)
    assert torch.equal(both.old["logp"][20:, : replays.mask_BT.shape[1]], replays.old["logp"])
    assert "entropy" in both.old
    with pytest.raises(ValueError, match="lack ref_logp_BT"):
        with_replays(batch.with_(ref_logp_BT=batch.old["logp"]), replays)


class Half:
    """Half a step's coefficient."""

    def __call__(self, ctx: StepContext) -> float:
        return 0.5


def test_a_replay_is_a_second_pass_with_its_own_loss_and_coefficient() -> None:
    step, loss = make_step(), PolicyLoss(aggregation="token-mean")
    batch = trained().rows(torch.arange(12))
    stored = lean(batch.rows([1, 4, 9]).with_(advantage_BT=batch.rows([1, 4, 9]).mask_BT.double()))
    plan = ReplayPlan(ShuffledMinibatches(), lambda b, c: stored, Half(), loss, rows=2)
    out = plan(batch, CTX)
    assert [len(m.batch) for m in out.value] == [4, 8, 2, 1] or [len(m.batch) for m in out.value][2:] == [
        2,
        1,
    ]
    assert out.metrics == {"replay/rows": 3.0, "replay/coefficient": 0.5}
    replay = out.value[2]
    assert replay.loss is loss and replay.coefficient == 0.5 and loss in plan.parts()
    here = replay.batch.with_tags(row=torch.tensor([1, 4]))  # whose logits the pipeline looks up
    plain = Minibatch(here, loss)
    halved, grad = update(make("grpo", {}), step, replace(plain, coefficient=0.5))
    full, whole = update(make("grpo", {}), step, plain)
    assert halved == pytest.approx(0.5 * full) and torch.allclose(grad, 0.5 * whole) and bool(grad.any())
    nothing = ReplayPlan(ShuffledMinibatches(), lambda b, c: None, Half())(batch, CTX)
    assert len(nothing.value) == 2 and nothing.metrics == {"replay/rows": 0.0}
