"""The loss family "constant weight x A x log-prob": no surrogate, so every token keeps its gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.stages.aggregate import aggregate
from harness.stages.base import Out, Stage, Stats
from harness.stages.batch import Batch
from harness.stages.loss import Bounds, FixedBounds, PolicyLoss, TokenRatio, TokenWeight, as_column, bounded
from harness.stages.token_stats import LOGP

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class BoundedWeight(TokenWeight):
    """sg[ clip(r, low, high) ]: a truncated importance weight, with whatever ratio and bounds.

    ``name`` is put before its metrics: the shares of response tokens whose weight is below their ratio
    (``capped``) and above it (``floored``).
    """

    name: str
    ratio: TokenRatio = TokenRatio()
    bounds: Bounds = FixedBounds()

    old_stats = (LOGP,)
    current_stats = (LOGP,)

    def parts(self) -> tuple[Stage, ...]:
        return (self.ratio, self.bounds)

    def events(self, batch: Batch, ratio_BT: Tensor, weight_BT: Tensor) -> dict[str, Tensor]:
        """What is counted, bool ``[B,T]``; a subclass may tell more apart."""
        return {"capped": weight_BT < ratio_BT, "floored": weight_BT > ratio_BT}

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        ratio = self.ratio.ratio(batch, current).detach()
        bounds = self.bounds(batch, current)
        weight = bounded(ratio, as_column(bounds.value[0]), as_column(bounds.value[1]))
        mask = batch.mask_BT.to(ratio.dtype)
        shares = {
            f"{self.name}/{event}": float(aggregate("token-mean", where.to(ratio.dtype), mask))
            for event, where in self.events(batch, ratio, weight).items()
        }
        return Out(weight, {**bounds.metrics, **shares})


def score_loss(weight: BoundedWeight, aggregation: str = "token-mean") -> PolicyLoss:
    """``-weight * A * logp``; no token is dropped, so the logged ``clip_low`` and ``clip_high`` are 0."""
    return PolicyLoss(
        ratio=weight.ratio,
        bounds=FixedBounds(math.inf, math.inf),
        weight=weight,
        surrogate="score",
        aggregation=aggregation,
    )
