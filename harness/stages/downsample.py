"""More rollouts than are trained on: the first of each group train, all of them are seen by the reward.

The other rows are in no group statistic of the advantage and in no denominator of the loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from harness.stages.base import Advantage, Out, Selection, StepContext
from harness.stages.batch import Batch
from harness.stages.defaults import group_normalised
from harness.stages.groups import rows_by_group
from harness.stages.loss import share_of

if TYPE_CHECKING:
    from torch import Tensor


def first_of_group(group_B: Tensor, share: float) -> Tensor:
    """Bool ``[B]``: the first ``share`` of each group's rows, in row order; at least one."""
    keep_B = torch.zeros(len(group_B), dtype=torch.bool)
    for rows in rows_by_group(group_B):
        keep_B[rows[: share_of(len(rows), share)]] = True
    return keep_B


def advantage_of(
    reward_B: Tensor, group_B: Tensor, keep_B: Tensor, *, eps: float = 1e-6, ddof: int = 1
) -> Tensor:
    """GRPO's advantage among the rows of ``keep_B`` alone, ``[B]``; 0 on the others."""
    advantage = torch.zeros_like(reward_B)
    advantage[keep_B] = group_normalised(reward_B[keep_B], group_B[keep_B], eps=eps, ddof=ddof)
    return advantage


@dataclass(frozen=True)
class FirstAdvantage(Advantage):
    """GRPO's advantage among the first ``share`` of each group; 0 on its other rows."""

    share: float
    eps: float = 1e-6

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        keep = first_of_group(batch.group_B, self.share)
        return Out(advantage_of(batch.rewards(), batch.group_B, keep, eps=self.eps))


@dataclass(frozen=True)
class FirstRollouts(Selection):
    """The first ``share`` of each group's rows train; the others are dropped and not counted."""

    share: float

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        return Out(batch.rows(first_of_group(batch.group_B, self.share)))
