"""Groups as wholes: their means, what a formula needs of them, and minibatches that do not split them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

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
