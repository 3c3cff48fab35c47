r"""DISPO: truncated importance weights with separate bounds for right and wrong responses (arXiv 2602.00983).

    r_t = exp(logp_t - old_logp_t)
    w_t = sg[ clip(r_t, 1 - eps_low_pos, 1 + eps_high_pos) ]   where A > 0
          sg[ clip(r_t, 1 - eps_low_neg, 1 + eps_high_neg) ]   where A < 0
    l_t = -w_t A logp_t

with GRPO's advantage A, averaged over tokens. The log ratio is not clamped. The objective is the paper's; the
four defaults are not: they are those of one third-party port, and another port has others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrobench import (
    AGGREGATIONS,
    Batch,
    BoundedWeight,
    Bounds,
    Method,
    Out,
    RunConfig,
    Stages,
    Stats,
    TokenRatio,
    grpo_stages,
    hp,
    refuse_single_update,
    register,
    score_loss,
)

if TYPE_CHECKING:
    from torch import Tensor


def bounds_by_sign(
    advantage_BT: Tensor, positive: tuple[float, float], negative: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """``(low, high)`` of the weight, ``[B,T]``, by the sign of A; both 0 where A is 0.

    Args:
        positive, negative: ``(eps_low, eps_high)``; an ``eps_low`` of 1 or more is no floor.
    """
    up, down = (advantage_BT > 0).to(advantage_BT.dtype), (advantage_BT < 0).to(advantage_BT.dtype)
    low = up * max(1 - positive[0], 0.0) + down * max(1 - negative[0], 0.0)
    high = up * (1 + positive[1]) + down * (1 + negative[1])
    return low, high


@dataclass(frozen=True)
class BoundsBySign(Bounds):
    """:func:`bounds_by_sign` of the batch's advantages."""

    positive: tuple[float, float]
    negative: tuple[float, float]

    def __call__(self, batch: Batch, current: Stats) -> Out[tuple[Tensor, Tensor]]:
        advantage = batch.advantages().to(current["logp"].dtype)
        return Out(bounds_by_sign(advantage, self.positive, self.negative))


class WeightBySign(BoundedWeight):
    """Counts capped and floored tokens of right (A > 0) and wrong (A < 0) responses apart."""

    def events(self, batch: Batch, ratio_BT: Tensor, weight_BT: Tensor) -> dict[str, Tensor]:
        advantage = batch.advantages()
        return {
            f"{event}_{sign}": where & side
            for event, where in super().events(batch, ratio_BT, weight_BT).items()
            for sign, side in (("pos", advantage > 0), ("neg", advantage < 0))
        }


@register("dispo")
@dataclass(frozen=True)
class DISPO(Method):
    """CISPO whose floor and cap differ between right and wrong responses; all four values are unverified."""

    eps_low_pos: float = hp(0.2, "floor 1 - this where A > 0; 1 is no floor", ge=0, le=1)
    eps_high_pos: float = hp(10.0, "cap 1 + this where A > 0", ge=0)
    eps_low_neg: float = hp(1.0, "floor 1 - this where A < 0; 1 is no floor", ge=0, le=1)
    eps_high_neg: float = hp(100.0, "cap 1 + this where A < 0", ge=0)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        refuse_single_update(run, "every weight at 1, so DISPO is GRPO")

    def stages(self) -> Stages:
        bounds = BoundsBySign((self.eps_low_pos, self.eps_high_pos), (self.eps_low_neg, self.eps_high_neg))
        weight = WeightBySign("dispo", TokenRatio(clamp=None), bounds)
        return grpo_stages().with_(loss=score_loss(weight, self.aggregation))
