"""What a formula cannot take, refused in one line: settings before any work, rewards in their step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.util.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.config.schema import RunConfig


def refuse_lone_rollouts(run: RunConfig, why: str) -> None:
    """Refuse groups of one rollout.

    Args:
        why: what they lack, for the message: ``A-GRAE compares the rollouts of a prompt``.

    Raises:
        UserError: ``rollout.group_size`` is 1.
    """
    if run.rollout.group_size < 2:
        raise UserError(f"{why}, and rollout.group_size=1 leaves nothing to compare; use at least 2")


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


def refuse_large_k(k: int, group_size: int) -> None:
    """Refuse ``k`` draws out of fewer rollouts.

    Raises:
        UserError: ``k`` is larger than the group.
    """
    if k > group_size:
        raise UserError(
            f"method.k={k} exceeds the {group_size} rollouts of a group; lower method.k or raise "
            "rollout.group_size"
        )


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


def need_verdicts(reward_B: Tensor, who: str) -> Tensor:
    """``reward_B``, if it is 0 or 1 everywhere.

    Raises:
        UserError: any other reward.
    """
    other = reward_B[(reward_B != 0) & (reward_B != 1)]
    if len(other):
        raise UserError(
            f"{who} needs rewards of 0 and 1, and this step has {float(other[0]):g}; leave the reward "
            "stage as it is, which gives the verdicts"
        )
    return reward_B


def need_no_negative(reward_B: Tensor, who: str) -> Tensor:
    """``reward_B``, if none is below 0.

    Raises:
        UserError: a negative reward.
    """
    if bool((reward_B < 0).any()):
        raise UserError(
            f"{who} needs rewards of 0 or more, and this step has {float(reward_B.min()):g}; leave the "
            "reward stage as it is, which gives 0 and 1, or shift the rewards"
        )
    return reward_B
