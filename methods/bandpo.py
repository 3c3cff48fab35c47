r"""BandPO: a ratio band of its own for every token (arXiv 2603.04918).

With p = exp(old_logp) and the radius delta, the bounds of a token are the smallest and largest ratio that
keep an f-divergence between (token, rest) of the old and the new policy within delta:

    tv      1 -+ delta / p
    chi2    1 -+ sqrt(delta (1 - p) / p)
    kl      the roots r of  -p log r - (1 - p) log((1 - r p) / (1 - p)) = delta,   KL(old || new)

within [0, 1 / p]. Where p > 1 - 1e-6 the band is [exp(-delta), 1] (kl), [1 - delta, 1] (tv), [1, 1] (chi2),
where p < 1e-6 [0, 1 / p]. With ``relax`` it is joined with [1 - eps_low, 1 + eps_high]. At last the upper
bound is at most ``cap``. Then GRPO's clipped loss with these bounds, at most -A c where A < 0 (dual clip).
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
    Bounds,
    Method,
    Out,
    PolicyLoss,
    RunConfig,
    Stages,
    Stats,
    aggregate,
    grpo_stages,
    hp,
    ratio_band,
    refuse_single_update,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

LEAST_LOGP = -700.0


def at_certainty(kind: str, delta: float) -> float:
    """Lower bound of a token of probability 1."""
    return {"kl": math.exp(-delta), "tv": max(1 - delta, 0.0), "chi2": 1.0}[kind]


def token_bounds(
    kind: str,
    old_logp_BT: Tensor,
    delta: float,
    cap: float,
    relaxed: tuple[float, float] | None = None,
    p_limit: float = 1e-6,
    p_floor: float = 1e-12,
) -> tuple[Tensor, Tensor]:
    """Lower and upper ratio bound of each token, float64, ``[B,T]``.

    Args:
        kind: of :data:`harness.stages.trust_region.BANDS`.
        relaxed: ``(eps_low, eps_high)`` of the plain band to be joined with; None is off.
        p_limit: nearer to 0 or 1 than this a probability takes its limit.
    """
    logp = old_logp_BT.double().clamp(LEAST_LOGP, 0.0)
    p = logp.exp()
    rare, certain = p < p_limit, p > 1 - p_limit
    low, high = ratio_band(kind, logp.clamp(math.log(p_limit), math.log1p(-p_limit)), delta)
    low = torch.where(certain, at_certainty(kind, delta), torch.where(rare, 0.0, low))
    high = torch.where(certain, 1.0, torch.where(rare, 1 / p.clamp(min=p_floor), high))
    if relaxed is not None:
        low, high = low.clamp(max=1 - relaxed[0]), high.clamp(min=1 + relaxed[1])
    return low.clamp(0.0, 1.0), high.clamp(1.0, cap)


@dataclass(frozen=True)
class ProbabilityBand(Bounds):
    """:func:`token_bounds` of the policy before the update; logs their means over response tokens."""

    kind: str
    delta: float
    cap: float
    relaxed: tuple[float, float] | None = None
    p_limit: float = 1e-6
    p_floor: float = 1e-12

    old_stats = (LOGP,)

    def __call__(self, batch: Batch, current: Stats) -> Out[tuple[Tensor, Tensor]]:
        old, dtype = batch.old["logp"], current["logp"].dtype
        low, high = token_bounds(
            self.kind, old, self.delta, self.cap, self.relaxed, self.p_limit, self.p_floor
        )
        metrics = {
            f"bandpo/{name}": float(aggregate("token-mean", bound, batch.mask_BT))
            for name, bound in (("low", low), ("high", high))
        }
        return Out((low.to(dtype), high.to(dtype)), metrics)


@register("bandpo@kl")
@dataclass(frozen=True)
class BandPOKL(Method):
    """GRPO whose ratio bounds keep KL(old || new) of (token, rest) within a radius."""

    delta: float = hp(0.05, "radius of the divergence (kl: nats)", gt=0)
    cap: float = hp(10.0, "largest upper bound", gt=1)
    relax: bool = hp(False, "join the band with [1 - eps_low, 1 + eps_high]")
    eps_low: float = hp(0.2, "plain band below 1, with relax", ge=0, lt=1)
    eps_high: float = hp(0.28, "plain band above 1, with relax", ge=0)
    dual_clip: float | None = hp(10.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("seq-mean-token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    kind = "kl"

    def validate(self, run: RunConfig) -> None:
        refuse_single_update(run, "every ratio at 1, so BandPO is GRPO")

    def stages(self) -> Stages:
        relaxed = (self.eps_low, self.eps_high) if self.relax else None
        bounds = ProbabilityBand(self.kind, self.delta, self.cap, relaxed)
        loss = PolicyLoss(bounds=bounds, dual_clip=self.dual_clip, aggregation=self.aggregation)
        return grpo_stages().with_(loss=loss)


@register("bandpo@tv")
@dataclass(frozen=True)
class BandPOTV(BandPOKL):
    """GRPO whose ratio bounds let a token's probability change by a radius."""

    kind = "tv"


@register("bandpo@chi2")
@dataclass(frozen=True)
class BandPOChi2(BandPOKL):
    """GRPO whose ratio bounds keep the chi-squared divergence of (token, rest) within a radius."""

    kind = "chi2"
