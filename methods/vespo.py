r"""VESPO: variational sequence-level soft policy optimisation (arXiv 2602.10693, eq. 20).

    log W = clip( sum_t clip(logp_t - old_logp_t, -20, 20), -20, 20 )        over the response's tokens
    (k, lambda) = (k_pos, lambda_pos) where A >= 0, (k_neg, lambda_neg) where A < 0
    phi = sg[ exp( lambda + k log max(W, 1e-8) - lambda W ) ]
    l_t = -phi A logp_t

averaged over tokens: a response's gradient has its true importance weight W, the product of its token ratios,
in a smooth bump that is 1 on policy, greatest at W = k / lambda and 0 on both sides. No clip, no length in W.

With ``sampler_cap`` the truncated ratio min(old / sampler, cap) of each token enters W too, in place of a
correction of the loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    LOGP,
    Batch,
    FixedBounds,
    GroupAdvantage,
    Method,
    Out,
    PolicyLoss,
    RunConfig,
    Stages,
    Stats,
    TokenWeight,
    grpo_stages,
    hp,
    log_ratio,
    refuse_lone_rollouts,
    refuse_single_update,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

CLAMP = 20.0


def log_response_weight(
    log_ratio_BT: Tensor, mask_BT: Tensor, sampler_BT: Tensor | None = None, clamp: float = CLAMP
) -> Tensor:
    """log W, ``[B]``, 0 for an empty response; ``sampler_BT`` is added to each clamped log ratio."""
    each = log_ratio_BT.clamp(-clamp, clamp)
    if sampler_BT is not None:
        each = each + sampler_BT.clamp(-clamp, clamp)
    return torch.where(mask_BT.bool(), each, 0.0).sum(1).clamp(-clamp, clamp)


def bump(
    log_weight_B: Tensor, k_B: Tensor, lambda_B: Tensor, w_floor: float = 1e-8, lambda_floor: float = 1e-4
) -> Tensor:
    """phi, ``[B]``: 1 at W = 1."""
    weight, damping = log_weight_B.exp(), lambda_B.clamp(min=lambda_floor)
    exponent = damping + k_B * weight.clamp(min=w_floor).log() - damping * weight
    return torch.nan_to_num(exponent.exp(), nan=0.0, posinf=0.0, neginf=0.0)


@dataclass(frozen=True)
class BumpWeight(TokenWeight):
    """phi of each response; (k, lambda) by the sign of its advantage."""

    positive: tuple[float, float]
    negative: tuple[float, float]
    sampler_cap: float | None = None
    clamp: float = CLAMP
    w_floor: float = 1e-8
    lambda_floor: float = 1e-4

    old_stats = (LOGP,)
    current_stats = (LOGP,)

    @property
    def corrects_rollouts(self) -> bool:  # type: ignore[override]
        return self.sampler_cap is not None

    def log_weight(self, batch: Batch, current: Stats) -> Tensor:
        """log W, ``[B]``, float64."""
        old, sampler = batch.old["logp"], None
        if self.sampler_cap is not None:
            sampler = log_ratio(old, batch.rollout_logp_BT.to(old.dtype), self.clamp).double()
            sampler = sampler.clamp(max=math.log(self.sampler_cap))
        own = (current["logp"] - old).double()
        return log_response_weight(own, batch.mask_BT, sampler, self.clamp)

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        log_weight = self.log_weight(batch, current)
        right = (batch.advantages() * batch.mask_BT).sum(1) >= 0  # all tokens of a response have one sign
        k, damping = (
            torch.where(right, log_weight.new_tensor(up), log_weight.new_tensor(down))
            for up, down in zip(self.positive, self.negative, strict=True)
        )
        phi = bump(log_weight, k, damping, self.w_floor, self.lambda_floor)
        metrics = {"vespo/phi": float(phi.mean()), "vespo/log_w": float(log_weight.abs().mean())}
        return Out(phi.to(current["logp"].dtype), metrics)


@register("vespo")
@dataclass(frozen=True)
class VESPO(Method):
    """REINFORCE with a soft weight on the importance weight of the whole response."""

    k_pos: float = hp(2.0, "where A >= 0: damps W < 1; at least 1 bounds the variance", gt=0)
    lambda_pos: float = hp(3.0, "where A >= 0: damps W > 1", ge=1e-4)
    k_neg: float = hp(3.0, "where A < 0: damps W < 1; at least 1 bounds the variance", gt=0)
    lambda_neg: float = hp(2.0, "where A < 0: damps W > 1", ge=1e-4)
    scale: str = hp("group", "divisor of the advantage (paper: none)", choices=("group", "batch", "none"))
    sampler_cap: float | None = hp(
        None, "cap on a token's ratio of old policy to sampler, which then enters W; null leaves it out", gt=0
    )
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        refuse_lone_rollouts(run, "VESPO takes the group's mean off a reward")
        if not run.rollout.lag:
            refuse_single_update(run, "every weight at 1, so VESPO is REINFORCE with GRPO's advantage")

    def stages(self) -> Stages:
        weight = BumpWeight((self.k_pos, self.lambda_pos), (self.k_neg, self.lambda_neg), self.sampler_cap)
        loss = PolicyLoss(
            bounds=FixedBounds(math.inf, math.inf), weight=weight, surrogate="score",
            aggregation=self.aggregation,
        )  # fmt: skip
        return grpo_stages().with_(advantage=GroupAdvantage(scale=self.scale), loss=loss)
