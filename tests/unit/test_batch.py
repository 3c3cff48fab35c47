"""The batch: rows, trimming, stacking, and its plain form in a component's state."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch

from harness.problems.problem import Problem, Verdict
from harness.stages.batch import Batch, concat
from tests.helpers.tiny import make_batch, tiny_policy


@pytest.fixture(scope="module")
def batch() -> Batch:
    made = make_batch(
        tiny_policy(), [[5, 6], [7], [8, 9, 10]], [[20, 21], [22], [23, 24, 25]], extra_P=2, extra_T=3
    )
    mask = made.mask_BT.float()
    return made.with_(
        group_B=torch.tensor([0, 0, 1]), texts=("a", "b", "c"),
        problems=tuple(Problem(f"p{i}", "x", "y", {"digits": (1, i)}) for i in range(3)),
        verdicts=(Verdict("right", "1"), Verdict("unparsed"), Verdict("wrong", "2")),
        old={"logp": -mask, "prompt_logp": -made.prompt_mask_BP.float()},
        reward_B=torch.tensor([1.0, 0.0, 0.5]), advantage_BT=mask * torch.tensor([[1.0], [2.0], [3.0]]),
        tags={"level": torch.tensor([0, 1, 2])},
    )  # fmt: skip


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return bool(a.dtype == b.dtype and torch.equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return bool(a == b)


def assert_same(a: Batch, b: Batch) -> None:
    assert same(dict(vars(a)), dict(vars(b)))


@pytest.mark.parametrize("index", [[2, 0], torch.tensor([2, 0]), range(2, -1, -2)])
def test_rows_keep_their_order(batch: Batch, index: Any) -> None:
    some = batch.rows(index)
    assert some.texts == ("c", "a") and some.group_B.tolist() == [1, 0]
    assert some.verdicts is not None and [v.status for v in some.verdicts] == ["wrong", "right"]
    assert torch.equal(some.old["prompt_logp"], batch.old["prompt_logp"][[2, 0]])
    assert some.tags["level"].tolist() == [2, 0]


def test_rows_by_mask_and_no_rows(batch: Batch) -> None:
    assert batch.rows(torch.tensor([True, False, True])).texts == ("a", "c")
    assert len(batch.rows([])) == 0 and batch.rows([]).texts == ()
    assert len(batch.rows(torch.zeros(3, dtype=torch.bool)).trimmed()) == 0


def test_derived_values(batch: Batch) -> None:
    assert batch.correct_B.tolist() == [1.0, 0.0, 0.0]
    assert batch.length_B.tolist() == [2, 1, 3]
    assert torch.equal(batch.train_mask_BT, batch.mask_BT)
    only_first = batch.mask_BT.clone()
    only_first[:, 1:] = False
    narrowed = batch.with_(loss_mask_BT=only_first)
    assert torch.equal(narrowed.train_mask_BT, only_first)
    assert torch.equal(narrowed.denominator_mask_BT, only_first)
    counted = narrowed.with_(count_mask_BT=batch.mask_BT)
    assert torch.equal(counted.denominator_mask_BT, batch.mask_BT)


def test_missing_values_say_which_stage_sets_them(batch: Batch) -> None:
    bare = batch.with_(verdicts=None, reward_B=None, advantage_BT=None)
    for read, stage in (
        (lambda: bare.correct_B, "Verify"), (bare.rewards, "reward stage"), (bare.advantages, "advantage"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=stage):
            read()


def test_trimmed_only_drops_padding(batch: Batch) -> None:
    tight = batch.trimmed()
    assert tight.prompt_BP.shape == (3, 3) and tight.response_BT.shape == (3, 3)
    assert tight.old["logp"].shape == (3, 3) and tight.old["prompt_logp"].shape == (3, 3)
    assert tight.prompt_mask_BP.sum() == batch.prompt_mask_BP.sum()
    assert torch.equal(tight.old["prompt_logp"], batch.old["prompt_logp"][:, -3:])
    assert torch.equal(tight.advantages(), batch.advantages()[:, :3])
    assert tight.trimmed() is tight


def test_concat_of_parts_is_the_whole(batch: Batch) -> None:
    parts = [batch.rows([0]).trimmed(), batch.rows([1, 2]).trimmed()]
    assert parts[0].prompt_BP.shape[1] != parts[1].prompt_BP.shape[1]
    assert_same(concat(parts), batch.trimmed())
    assert concat([batch]) is batch


def test_concat_fills_missing_tags_and_refuses_half_set_fields(batch: Batch) -> None:
    tagged = batch.with_tags(replay=torch.ones(3))
    assert concat([batch, tagged]).tags["replay"].tolist() == [0, 0, 0, 1, 1, 1]
    with pytest.raises(ValueError, match="'reward_B' is set in some of them only"):
        concat([batch, batch.with_(reward_B=None)])


@pytest.mark.parametrize(
    ("field", "read", "remedy"),
    [
        ("reward_B", Batch.rewards, "set by the reward stage"),
        ("advantage_BT", Batch.advantages, "set by the advantage stage"),
        ("ref_logp_BT", Batch.reference_logp, "must set needs_reference"),
    ],
)
def test_what_no_stage_has_set_is_refused(
    batch: Batch, field: str, read: Callable[[Batch], torch.Tensor], remedy: str
) -> None:
    value = torch.ones(len(batch))
    assert read(batch.with_(**{field: value})) is value
    with pytest.raises(ValueError, match=remedy):
        read(batch.with_(**{field: None}))


def test_plain_form_survives_a_checkpoint(batch: Batch) -> None:
    buffer = io.BytesIO()
    torch.save({"batch": batch.plain(), "bare": batch.with_(verdicts=None).plain()}, buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    assert_same(Batch.from_plain(state["batch"]), batch)
    assert Batch.from_plain(state["bare"]).verdicts is None
