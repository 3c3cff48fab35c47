r"""BNPO: Beta normalisation policy optimisation (arXiv 2506.02864).

The success rates p_g of a step's prompts are modelled by a Beta law; the centred reward is divided by the
density of another one whose parameters follow the batch, so that the normalisation moves with the policy:

    r = (R - r_min) / (r_max - r_min),   p_g = mean of r over group g
    m, v = mean and variance (ddof 1) of the p_g
    a = (m (1 - m) / v - 1) m,   b = (m (1 - m) / v - 1) (1 - m)             (method of moments)
    alpha = max(1, 1 + a / 3),   beta = max(1, 1 + b / 3)
    A_i = (r_i - p_g) min(1 / Beta(p_g; alpha, beta), 1e6)

alpha = beta = 1 is REINFORCE with the group's mean as baseline, alpha = beta = 3/2 proportional to GRPO.
TRL's ``loss_type="bnpo"`` is something else: a mean over the tokens of the local batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    Advantage,
    Batch,
    ClippedMethod,
    Out,
    RunConfig,
    Stages,
    StepContext,
    UserError,
    group_means,
    grpo_stages,
    hp,
    refuse_lone_rollouts,
    refuse_rewards_outside,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

#: Success rates that differ by less are equal: rounding of a mean is no variance.
_EQUAL = 1e-9


def beta_parameters(p_G: Tensor, divisor: float = 3.0) -> tuple[Tensor, Tensor]:
    """alpha and beta from the groups' success rates.

    Both are 1 where all rates are equal (v = 0 divides by zero in the official code), and of a single group,
    which counts as m = 0 and v = 1.
    """
    one = torch.ones((), dtype=p_G.dtype)
    if len(p_G) < 2 or float(p_G.max() - p_G.min()) < _EQUAL:
        return one, one
    m, v = p_G.mean(), p_G.var()
    size = m * (1 - m) / v - 1
    return (1 + size * m / divisor).clamp(min=1), (1 + size * (1 - m) / divisor).clamp(min=1)


def density_weight(p_G: Tensor, alpha: Tensor, beta: Tensor, cap: float = 1e6) -> Tensor:
    """1 / Beta(p; alpha, beta), at most ``cap``, ``[G]``; where the density is 0 it is the cap."""
    norm = torch.lgamma(alpha) + torch.lgamma(beta) - torch.lgamma(alpha + beta)
    log_density_G = torch.xlogy(alpha - 1, p_G) + torch.xlogy(beta - 1, 1 - p_G) - norm
    return (-log_density_G).exp().clamp(max=cap)


@dataclass(frozen=True)
class BetaNormalised(Advantage):
    """A above, from all groups of the step."""

    r_min: float = 0.0
    r_max: float = 1.0
    divisor: float = 3.0
    cap: float = 1e6

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        reward_B = batch.rewards()
        remedy = "set method.r_min and method.r_max to the reward's range"
        refuse_rewards_outside(reward_B, self.r_min, self.r_max, "bnpo", remedy)
        mapped_B = (reward_B - self.r_min) / (self.r_max - self.r_min)
        p_G, index_B = group_means(mapped_B, batch.group_B)
        alpha, beta = beta_parameters(p_G, self.divisor)
        weight_G = density_weight(p_G.clamp(0.0, 1.0), alpha, beta, self.cap)
        dtype = reward_B.dtype
        advantage_B = weight_G[index_B].to(dtype) * (mapped_B - p_G[index_B].to(dtype))
        metrics = {
            "bnpo/alpha": float(alpha),
            "bnpo/beta": float(beta),
            "bnpo/equal_rates": float(len(p_G) > 1 and float(p_G.max() - p_G.min()) < _EQUAL),
        }
        return Out(advantage_B, metrics)


@register("bnpo")
@dataclass(frozen=True)
class BNPO(ClippedMethod):
    """Centred rewards divided by a Beta density that is fitted to the batch's success rates."""

    r_min: float = hp(0.0, "smallest reward, mapped to 0")
    r_max: float = hp(1.0, "largest reward, mapped to 1")
    divisor: float = hp(3.0, "divisor of the fitted a and b in alpha and beta; the larger, the flatter", gt=0)
    weight_cap: float = hp(1e6, "largest inverse density", gt=0)
    eps_high: float = hp(0.28, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(10.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("seq-mean-token-sum", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if self.r_min >= self.r_max:
            raise UserError("method.r_min must be below method.r_max; they are the reward's range")
        refuse_lone_rollouts(run, "bnpo estimates a success rate for each prompt")

    def stages(self) -> Stages:
        return grpo_stages().with_(
            advantage=BetaNormalised(self.r_min, self.r_max, self.divisor, self.weight_cap),
            loss=self.clipped_loss(),
        )
