"""What methods share that change a rollout's credit alone: the clipped loss around it, a formula per group,
and the rewards that a formula can take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from harness.config.fields import hp
from harness.stages.aggregate import AGGREGATIONS
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from harness.stages.method import Method
from harness.util.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ClippedMethod(Method):
    """A method whose loss is GRPO's clipped one; a subclass repeats a setting to give it another default."""

    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(None, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def clipped_loss(self, ratio: TokenRatio | None = None) -> PolicyLoss:
        """The clipped loss with these settings; ``ratio`` in place of the clamped token ratio."""
        return PolicyLoss(
            ratio=ratio or TokenRatio(),
            bounds=FixedBounds(self.eps_low, self.eps_high),
            dual_clip=self.dual_clip,
            aggregation=self.aggregation,
        )


def per_group(formula: Callable[..., Tensor], group_B: Tensor, *values_B: Tensor) -> Tensor:
    """``formula`` of each group's values, ``[B]``: computed in float64, returned in the first value's type.

    Args:
        formula: takes the values of one group, ``[n]`` each, in the order of the batch, and gives ``[n]``.
    """
    out = torch.zeros(len(group_B), dtype=torch.float64)
    for group in torch.unique(group_B):
        rows = (group_B == group).nonzero().flatten()
        out[rows] = formula(*(value[rows].double() for value in values_B))
    return out.to(values_B[0].dtype)


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
