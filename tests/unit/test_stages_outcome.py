"""The pieces that methods share which change a rollout's credit alone."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from harness.config.fields import hp
from harness.stages.clipped import ClippedMethod
from harness.stages.groups import per_group
from harness.stages.loss import FixedBounds, TokenRatio
from harness.stages.refusals import need_no_negative, need_verdicts, refuse_large_k
from harness.util.errors import UserError


def test_a_formula_sees_one_group_at_a_time_in_the_batch_s_order_and_in_float64() -> None:
    seen: list[list[float]] = []

    def formula(value_n: torch.Tensor, other_n: torch.Tensor) -> torch.Tensor:
        assert value_n.dtype == other_n.dtype == torch.float64
        seen.append(value_n.tolist())
        return value_n - value_n.mean() + other_n

    value, group = torch.tensor([1.0, 10.0, 3.0, 20.0, 5.0]), torch.tensor([7, 2, 7, 2, 7])
    out = per_group(formula, group, value, torch.tensor([0, 0, 0, 0, 1]))
    assert seen == [[10, 20], [1, 3, 5]]
    assert out.tolist() == [-2, -5, 0, 5, 3] and out.dtype == torch.float32
    assert per_group(formula, group[:0], value[:0], value[:0]).tolist() == []


def test_rewards_that_a_formula_cannot_take_are_named_with_the_remedy() -> None:
    fine = torch.tensor([0.0, 1.0])
    assert need_verdicts(fine, "x") is fine
    graded = torch.tensor([0.25, 3.0])
    assert need_no_negative(graded, "x") is graded
    with pytest.raises(
        UserError, match="x needs rewards of 0 and 1, and this step has 0.25; leave the reward"
    ):
        need_verdicts(graded, "x")
    with pytest.raises(
        UserError, match="x needs rewards of 0 or more, and this step has -2; leave the reward"
    ):
        need_no_negative(torch.tensor([1.0, -2.0]), "x")


def test_k_larger_than_the_group_is_refused() -> None:
    refuse_large_k(8, 8)
    with pytest.raises(UserError, match="method.k=9 exceeds the 8 rollouts of a group; lower method.k"):
        refuse_large_k(9, 8)


def test_the_clipped_loss_takes_all_four_settings() -> None:
    @dataclass(frozen=True)
    class Other(ClippedMethod):
        eps_high: float = hp(0.28, "another default")

    plain = Other().clipped_loss()
    assert plain.bounds == FixedBounds(0.2, 0.28) and plain.dual_clip is None
    assert plain.aggregation == "token-mean" and plain.ratio == TokenRatio()
    changed = Other(eps_low=0.1, dual_clip=3.0, aggregation="seq-mean-token-mean")
    loss = changed.clipped_loss(TokenRatio(None))
    assert loss.bounds == FixedBounds(0.1, 0.28) and loss.dual_clip == 3
    assert loss.aggregation == "seq-mean-token-mean" and loss.ratio == TokenRatio(None)
