r"""MaxRL: maximum likelihood reinforcement learning (arXiv 2602.02710).

    A_i = (R_i - m) / (m + eps),     m the mean of the group's rewards

log p = -sum_k (1 - p)^k / k for the chance p of being right, a mixture of all pass@k. Dividing by the mean
instead of the standard deviation makes a group of N rollouts an estimate of that mixture's first terms: a
right row of K right ones has weight N / K - 1, a wrong one -1. ``eps = 0`` is the paper's form, in which a
group without a success gives 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrobench import (
    Advantage,
    Batch,
    ClippedMethod,
    Out,
    Stages,
    StepContext,
    grpo_stages,
    hp,
    need_no_negative,
    per_group,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


def mean_normalised(reward_B: Tensor, group_B: Tensor, eps: float = 1e-6) -> Tensor:
    """(R - m) / (m + eps), ``[B]``; 0 in a group whose rewards are all 0."""

    def formula(reward_n: Tensor) -> Tensor:
        mean = reward_n.mean()
        return reward_n * 0 if mean <= 0 else (reward_n - mean) / (mean + eps)

    return per_group(formula, group_B, reward_B)


@dataclass(frozen=True)
class MeanNormalised(Advantage):
    """The reward less the group's mean, divided by that mean, on every token."""

    eps: float

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        reward = need_no_negative(batch.rewards(), "MaxRL")
        return Out(mean_normalised(reward, batch.group_B, self.eps))


@register("maxrl")
@dataclass(frozen=True)
class MaxRL(ClippedMethod):
    """GRPO with the group's mean in place of its standard deviation."""

    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0 (verl); null is off", gt=1)
    eps: float = hp(1e-6, "added to the mean; 0 is the paper's form", ge=0)

    def stages(self) -> Stages:
        return grpo_stages().with_(advantage=MeanNormalised(self.eps), loss=self.clipped_loss())
