r"""STEER: token reweighting by the expected entropy change (arXiv 2510.10150).

    Omega_t = (A / q) p (1 - p) (ln p + H),          m_t = |Omega_t|

with p the CURRENT and q the OLD probability of the sampled token and H the OLD policy's entropy. The
clipped loss of each token is multiplied by a constant weight

    linear:       w = w_max - (w_max - w_min) (m - m_min) / (m_max - m_min), within [w_min, w_max]
    exponential:  w = exp(-k m), k = -ln(w_min) / max(m_max, 0.02), within [w_min, 1]

where m_min and m_max run over the response tokens of the minibatch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    ENTROPY,
    LOGP,
    Batch,
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    RunConfig,
    Stages,
    Stats,
    TokenWeight,
    UserError,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


def entropy_change(
    logp_BT: Tensor, old_logp_BT: Tensor, old_entropy_BT: Tensor, advantage_BT: Tensor, p_floor: float = 1e-8
) -> Tensor:
    """|Omega| per token, ``[B,T]``; values that are not finite become 0."""
    p = logp_BT.exp().clamp(p_floor, 1 - p_floor)
    q = old_logp_BT.exp().clamp(p_floor, 1)
    omega = advantage_BT / q * p * (1 - p) * (p.log() + old_entropy_BT)
    return torch.where(omega.isfinite(), omega, torch.zeros_like(omega)).abs()


def linear_weights(change_BT: Tensor, mask_BT: Tensor, w_min: float, w_max: float) -> Tensor:
    """From ``w_max`` at the smallest change linearly to ``w_min`` at the largest; 0 on padding."""
    mask = mask_BT.bool()
    inside = change_BT[mask]
    weight = torch.full_like(change_BT, 0.5 * (w_min + w_max))
    if inside.numel() and inside.max() > inside.min():
        low, high = inside.min(), inside.max()
        weight = (w_max - (change_BT - low) * (w_max - w_min) / (high - low)).clamp(w_min, w_max)
    return weight * mask


def exponential_weights(change_BT: Tensor, mask_BT: Tensor, w_min: float, max_floor: float = 0.02) -> Tensor:
    """exp(-k m) within ``[w_min, 1]``; 0 on padding."""
    mask = mask_BT.bool()
    largest = max(float(change_BT[mask].max()) if bool(mask.any()) else 0.0, max_floor)
    k = -math.log(w_min) / largest
    return torch.exp(-k * change_BT).clamp(w_min, 1.0) * mask


@dataclass(frozen=True)
class EntropyChangeWeight(TokenWeight):
    """The weights above, their range taken over the whole minibatch."""

    mode: str
    w_min: float
    w_max: float
    p_floor: float = 1e-8
    max_floor: float = 0.02

    old_stats = (LOGP, ENTROPY)
    current_stats = (LOGP,)
    minibatch_scope = True

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        logp, mask = current["logp"], batch.train_mask_BT
        advantage = batch.advantages().to(logp.dtype)
        change = entropy_change(logp, batch.old["logp"], batch.old["entropy"], advantage, self.p_floor)
        if self.mode == "linear":
            weight = linear_weights(change, mask, self.w_min, self.w_max)
        else:
            weight = exponential_weights(change, mask, self.w_min, self.max_floor)
        tokens = max(int(mask.sum()), 1)
        metrics = {
            "steer/weight_mean": float(weight.sum()) / tokens,
            "steer/change_mean": float((change * mask).sum()) / tokens,
        }
        return Out(weight, metrics)


@register("steer")
@dataclass(frozen=True)
class STEER(Method):
    """GRPO with clip-higher and entropy-change weights."""

    mode: str = hp("exponential", "shape of the weight", choices=("exponential", "linear"))
    w_min: float = hp(0.7, "weight at the largest entropy change", gt=0)
    w_max: float = hp(1.2, "weight at the smallest entropy change (linear only)", gt=0)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.28, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(10.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("token-mean", "reduction; weights are not renormalised", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if self.mode == "linear" and self.w_min > self.w_max:
            raise UserError("method.w_min exceeds method.w_max; lower w_min or raise w_max")
        if self.mode == "exponential" and self.w_min > 1:
            raise UserError("method.w_min must be at most 1 with method.mode=exponential; use mode=linear")

    def stages(self) -> Stages:
        return grpo_stages().with_(
            loss=PolicyLoss(
                bounds=FixedBounds(self.eps_low, self.eps_high),
                weight=EntropyChangeWeight(self.mode, self.w_min, self.w_max),
                dual_clip=self.dual_clip,
                aggregation=self.aggregation,
            )
        )
