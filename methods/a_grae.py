r"""A-GRAE: asymmetric group relative advantage estimation (arXiv 2602.05548).

GRPO's advantages are symmetric between right and wrong and largest at medium difficulty. Here those of right
rollouts are weakened while the policy is still weak, and the weight moves from easy prompts to hard ones as
the success rate grows. With p_g and s_g mean and std (ddof 1) of group g, P the mean of the p_g of a step:

    a_i = (r_i - p_g) / (s_g + eps)                                   (or r_i - p_g on Dr. GRPO)
    hard_i = 0.5 a_i / (sqrt(p_g) + eps),   easy_i = 0.5 a_i / (1 - sqrt(p_g) + eps)
    A_i = (1 - P) easy_i + P hard_i,   times min(1, P / alpha) where A_i > 0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrobench import (
    Advantage,
    Batch,
    ClippedMethod,
    Out,
    RunConfig,
    Stages,
    StepContext,
    group_means,
    group_normalised,
    grpo_stages,
    hp,
    refuse_lone_rollouts,
    refuse_rewards_outside,
    register,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def refocused(advantage_B: Tensor, p_B: Tensor, mean: float, eps: float = 1e-6) -> Tensor:
    """A before right rollouts are weakened, ``[B]``.

    Args:
        p_B: success rate of the row's group.
        mean: P, that of the step.
    """
    root_B = p_B.sqrt()
    hard_B, easy_B = 0.5 * advantage_B / (root_B + eps), 0.5 * advantage_B / (1 - root_B + eps)
    return (1 - mean) * easy_B + mean * hard_B


def attenuated(advantage_B: Tensor, mean: float, alpha: float) -> Tensor:
    """``advantage_B`` with the positive ones times min(1, P / alpha), ``[B]``."""
    return advantage_B.where(advantage_B <= 0, advantage_B * min(1.0, mean / alpha))


@dataclass(frozen=True)
class AsymmetricAdvantage(Advantage):
    """A above, from all groups of the step; ``scale`` and ``eps`` are those of the plain advantage."""

    alpha: float = 1.0
    scale: str = "group"
    eps: float = 1e-6

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        reward_B = batch.rewards()
        refuse_rewards_outside(reward_B, 0.0, 1.0, "a-grae", "take a reward of 1 for right and 0 for wrong")
        plain_B = group_normalised(reward_B, batch.group_B, eps=self.eps, scale=self.scale)
        p_G, index_B = group_means(reward_B, batch.group_B)
        mean = float(p_G.mean())
        moved_B = refocused(plain_B.double(), p_G[index_B], mean, self.eps)
        advantage_B: torch.Tensor = attenuated(moved_B, mean, self.alpha).to(reward_B.dtype)
        return Out(advantage_B, {"a_grae/mean": mean, "a_grae/right_factor": min(1.0, mean / self.alpha)})


@register("a-grae")
@dataclass(frozen=True)
class AGRAE(ClippedMethod):
    """GRPO whose advantages lean to wrong rollouts early and to hard prompts late."""

    alpha: float = hp(1.0, "success rate from which right rollouts count in full (Geo3K, medical: 0.5)", gt=0)
    scale: str = hp("group", "divisor of the plain advantage; none is Dr. GRPO", choices=("group", "none"))
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)

    def validate(self, run: RunConfig) -> None:
        refuse_lone_rollouts(run, "a-grae needs the success rate of each prompt")

    def stages(self) -> Stages:
        return grpo_stages().with_(
            advantage=AsymmetricAdvantage(self.alpha, self.scale),
            loss=self.clipped_loss(),
        )
