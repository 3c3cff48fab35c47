"""Data filters by hand: the penalty, which groups stay, refills by shaped reward, masks by text."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.problems.problem import Verdict
from harness.stages.filters import (
    group_spreads,
    groups_within,
    poor_responses,
    repeats,
    varied_groups,
    widest_groups,
)
from harness.stages.requests import Generate
from methods.dapo import SoftOverlong, overlong_penalty
from methods.data_filters import GroupRule, MaskResponses, RefilledRollout, RuledGroups, first_groups
from tests.methods.support.golden import make_batch
from tests.methods.support.pipeline import make_step, plan_of, rows_of, update
from tests.methods.support.programs import CTX, drive
from tests.methods.support.registered import make

THREE = torch.tensor([4, 4, 4, 1, 1, 1, 9])


def test_the_penalty_by_hand() -> None:
    penalty = overlong_penalty(torch.tensor([15.0, 16.0, 20.0]), 20, 5, 1.0)
    assert penalty.tolist() == pytest.approx([0.0, -0.2, -1.0])


def test_groups_by_hand() -> None:
    value = torch.tensor([1.0, 1, 1, 1, 0, 0, 0])
    assert varied_groups(value, THREE).tolist() == [False] * 3 + [True] * 4  # a lone row stays
    assert groups_within(value, THREE, 0.33, 0.9).tolist() == [False] * 3 + [True] * 3 + [False]
    assert groups_within(value, THREE, 0.34, 0.9).tolist() == [False] * 7
    assert groups_within(value, THREE, -0.1, 0.3).tolist() == [False] * 6 + [True]  # its mean decides
    assert group_spreads(value, THREE).tolist() == pytest.approx([3**-0.5, 0.0, 1.0])
    assert widest_groups(value, THREE, 0.67).tolist() == [False] * 3 + [True] * 4
    assert not bool(widest_groups(value, THREE, 0.3).any())
    assert first_groups(torch.ones(7, dtype=torch.bool), THREE, 2) == [4, 1]  # as they came


def test_groups_of_one_size_have_the_spreads_of_the_code_to_the_bit() -> None:
    """One reduction over all of them: the last bit decides which of equally wide groups ``topk`` takes."""
    value = torch.randn(50, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    group, order = torch.arange(50).repeat_interleave(8), torch.arange(400).reshape(50, 8).T.flatten()
    assert torch.equal(group_spreads(value.flatten(), group), value.std(1))
    assert torch.equal(group_spreads(value.flatten()[order], group[order]), value.std(1))


def test_a_group_that_is_right_but_unequally_long() -> None:
    """Verdicts drop it, shaped rewards keep it."""
    step = make_step(1)
    all_right = step.batch.with_(verdicts=(Verdict("right", "2"),) * len(step.batch))
    reward = SoftOverlong(1.0, -1.0, 0.9, 1.0)
    batch = all_right.with_(reward_B=reward(all_right, step.ctx).value)
    assert not bool(RuledGroups(GroupRule())(batch, step.ctx).value.any())
    assert bool(RuledGroups(GroupRule(metric="seq_reward"))(batch, step.ctx).value.any())


def test_refills_judge_what_the_filter_judges() -> None:
    """Every response is right and of three tokens: the penalty is the same everywhere, nothing differs."""
    for metric in ("acc", "seq_reward"):
        rule, reward = GroupRule(metric=metric), SoftOverlong(1.0, -1.0, 1.0, 1.0)
        batch, requests = drive(RefilledRollout(1.0, 3, rule, reward).run(CTX), lambda p, s: True)
        assert len([r for r in requests if isinstance(r, Generate)]) == 3
        kept = RuledGroups(rule)(batch.with_(reward_B=reward(batch, CTX).value), CTX)
        assert not bool(kept.value.any()) and kept.metrics["data_filters/missing_groups"] == 4
    some, requests = drive(
        RefilledRollout(1.0, 9, GroupRule("band", low=0.5, high=0.9)).run(CTX),
        lambda p, s: s == 0 or (s == 1 and int(p) % 2 == 0),
    )
    assert [p.id for p in some.problems[:: CTX.group_size]] == ["0", "2", "4", "6"]
    assert some.tags["extra"].tolist() == [0.0] * 6 + [1.0] * 6


def test_poor_responses() -> None:
    assert repeats([1, 2, 1, 2, 1, 2], 2, 3) and not repeats([1, 2, 1, 2, 1, 2], 2, 4)
    assert not repeats([1, 2], 3, 1)
    mask = torch.ones(4, 6, dtype=torch.bool)
    batch = make_batch(mask).with_(
        response_BT=torch.tensor([[1, 2, 3, 4, 5, 6]] * 3 + [[7] * 6]),
        verdicts=(Verdict("wrong", "1"), Verdict("wrong", "1"), Verdict("unparsed"), Verdict("right", "1")),
        texts=("fine", "not \ufffd fine", "", "7777"),
    )
    assert poor_responses(batch, 2, 5).tolist() == [False, True, True, True]
    out = MaskResponses(False, True, 2, 5)(batch, CTX)
    assert len(out.value) == 1 and out.metrics == {"data_filters/masked": 0.75}


def test_a_masked_response_counts_in_its_group_alone() -> None:
    """Its reward moves the advantages of the others, and no denominator counts it."""
    step, options = make_step(4, minibatches=1), {"keep": "all", "refill": False}
    masked, plain = make("data-filters", {**options, "overlong": "mask"}), make("data-filters", options)
    (mine,) = plan_of(masked, step)
    cut = step.batch.truncated_B
    assert bool(cut.any()) and set(rows_of([mine])) == set((~cut).nonzero().flatten().tolist())
    (other,) = plan_of(make("data-filters", {**options, "overlong": "none"}), step)
    whole = other.batch.rows(torch.isin(other.batch.tags["row"], mine.batch.tags["row"]))
    grads = [update(plain, step, replace(mine, batch=batch))[1] for batch in (mine.batch, whole)]
    torch.testing.assert_close(*grads)
