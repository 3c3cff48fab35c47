r"""CISPO: clipped importance-sampling policy optimisation (MiniMax-M1, arXiv 2506.13585, eq. 4-5).

    r_t = exp(clamp(logp_t - old_logp_t, -20, 20))
    w_t = sg[ clip(r_t, floor, cap) ]
    l_t = -w_t A logp_t

with GRPO's advantage A, averaged over tokens: REINFORCE with a truncated importance weight, so that no token
loses its gradient, whatever its ratio. The paper has no floor and does not print its cap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrobench import (
    AGGREGATIONS,
    LOGP,
    Batch,
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    RunConfig,
    Stage,
    Stages,
    Stats,
    TokenRatio,
    TokenWeight,
    UserError,
    aggregate,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


def truncated(ratio_BT: Tensor, floor: float, cap: float) -> Tensor:
    """clip(r, floor, cap), ``[B,T]``."""
    return ratio_BT.clamp(floor, cap)


@dataclass(frozen=True)
class TruncatedRatio(TokenWeight):
    """The weight above, a constant of the update, with the shares of tokens it differs from the ratio at."""

    floor: float
    cap: float
    ratio: TokenRatio = TokenRatio()

    old_stats = (LOGP,)
    current_stats = (LOGP,)

    def parts(self) -> tuple[Stage, ...]:
        return (self.ratio,)

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        ratio = self.ratio.log_ratio(batch, current).exp()
        weight = truncated(ratio, self.floor, self.cap)
        events = {"cispo/capped": weight < ratio, "cispo/floored": weight > ratio}
        mask = batch.mask_BT.to(ratio.dtype)
        shares = {k: float(aggregate("token-mean", e.to(ratio.dtype), mask)) for k, e in events.items()}
        return Out(weight, shares)


@register("cispo")
@dataclass(frozen=True)
class CISPO(Method):
    """REINFORCE with GRPO's advantage and a truncated importance weight."""

    cap: float = hp(5.0, "largest weight, absolute (verl's 1 + eps_high)", gt=0)
    floor: float = hp(0.0, "smallest weight, absolute (verl's 1 - eps_low); 0 is none", ge=0)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if self.floor >= self.cap:
            raise UserError("method.floor must be below method.cap; lower floor (0 is none) or raise cap")
        if run.train.minibatches * run.train.epochs == 1:
            raise UserError(
                "one update per rollout keeps every weight at 1, so CISPO is GRPO; raise train.minibatches"
            )

    def stages(self) -> Stages:
        return grpo_stages().with_(
            loss=PolicyLoss(
                bounds=FixedBounds(math.inf, math.inf),  # no token is dropped: clip_low and clip_high log 0
                weight=TruncatedRatio(self.floor, self.cap),
                surrogate="score",
                aggregation=self.aggregation,
            )
        )
