"""Groups as wholes: their means, what a formula needs of them, and minibatches that do not split them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from harness.stages.base import Minibatch, Out, StepContext, UpdatePlan
from harness.stages.batch import Batch
from harness.stages.defaults import ShuffledMinibatches
from harness.util.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.config.schema import RunConfig


def group_means(value_B: Tensor, group_B: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each group in order of its number, ``[G]`` float64, and each row's place in it, ``[B]``.

    A group of one row has mean 0, as in :func:`~harness.stages.defaults.group_mean_std`.
    """
    _, index_B, count_G = torch.unique(group_B, return_inverse=True, return_counts=True)
    total_G = torch.zeros(len(count_G), dtype=torch.float64).index_add(0, index_B, value_B.double())
    return torch.where(count_G == 1, 0.0, total_G / count_G), index_B


def refuse_lone_rollouts(run: RunConfig, why: str) -> None:
    """Refuse groups of one rollout.

    Args:
        why: what they lack, for the message: ``A-GRAE compares the rollouts of a prompt``.

    Raises:
        UserError: ``rollout.group_size`` is 1.
    """
    if run.rollout.group_size < 2:
        raise UserError(f"{why}, and rollout.group_size=1 leaves nothing to compare; use at least 2")


def refuse_rewards_outside(reward_B: Tensor, low: float, high: float, name: str, remedy: str) -> None:
    """Refuse rewards that a formula is not defined for.

    Args:
        low, high: what they may be, the ends included.
        name: whose formula it is.
        remedy: what to do, for the message.

    Raises:
        UserError: a reward is outside.
    """
    if len(reward_B) and not (float(reward_B.min()) >= low and float(reward_B.max()) <= high):
        raise UserError(
            f"{name} needs rewards from {low:g} to {high:g}, and this step has {float(reward_B.min()):g} to "
            f"{float(reward_B.max()):g}; {remedy}"
        )


def counted_groups(batch: Batch) -> Batch:
    """``batch`` with the number of rows of each row's group as the tag ``group_rows``."""
    _, index_B, count_G = torch.unique(batch.group_B, return_inverse=True, return_counts=True)
    return batch.with_tags(group_rows=count_G[index_B].float())


@dataclass(frozen=True)
class WholeGroups(UpdatePlan):
    """Shuffled minibatches, as many as the run has, that never split a group.

    What a loss takes of whole groups it takes in ``prepare`` with ``minibatch_scope``: over the minibatch,
    however that is split into micro-batches and processes. It reads the tag ``group_rows``, so that it cannot
    be composed with another plan, and checks it (:func:`check_whole`).
    """

    writes_tags = frozenset({"group_rows"})

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[list[Minibatch]]:
        return ShuffledMinibatches(by_group=True)(counted_groups(batch), ctx)


def check_whole(batch: Batch, group_rows_B: Tensor) -> None:
    """Every group has all its rows.

    Args:
        group_rows_B: their number, the tag of that name.

    Raises:
        ValueError: some are missing.
    """
    there = counted_groups(batch).tags["group_rows"]
    if not torch.equal(there, group_rows_B):
        raise ValueError(
            "a group is split: this loss needs whole groups, from WholeGroups and minibatch scope"
        )


def refuse_split_groups(run: RunConfig, name: str) -> None:
    """Refuse settings that would split groups, or make fewer minibatches than asked for.

    Args:
        name: the method that needs whole groups.

    Raises:
        UserError: names the remedy.
    """
    if run.train.scope == "micro":
        raise UserError(f"{name} needs whole groups, which micro-batches split; use train.scope=minibatch")
    if run.train.minibatches > run.rollout.prompts_per_step:
        raise UserError(
            f"{name} keeps the rollouts of a prompt in one minibatch, so train.minibatches="
            f"{run.train.minibatches} needs as many prompts; lower it or raise rollout.prompts_per_step"
        )
