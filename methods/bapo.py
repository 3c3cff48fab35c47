r"""BAPO: balanced policy optimisation with adaptive clipping (arXiv 2510.18927).

Before every update the ratio bounds (low, high) are searched so that tokens of positive advantage carry
enough of the surrogate; then PPO-clip runs with them. Bounds are ratios, not epsilons. M is the set of
response tokens, r the token ratio, A the advantage.

``bapo@released`` (official code), q = P / N of e A, e = min(r, high) where A >= 0, max(r, low) where A < 0:
    while q < target and low < low_max:    low  <- min(low + low_step, low_max)
    while q < target and high < high_max:  high <- min(high + high_step, high_max)

``bapo@paper`` (Algorithm 1, eq. 8), with s(low, high) = pi_old min(r A, clip(r, low, high) A):
    rho = sum_{A>0} |s(0, high)| / sum |s(low, high)|
    while rho < target and low + low_step <= low_max:
        high += high_step if that stays within high_max, else low += low_step
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
    UserError,
    grpo_stages,
    hp,
    log_ratio,
    refuse_single_update,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


def positive_negative_ratio(
    ratio_BT: Tensor, advantage_BT: Tensor, mask_BT: Tensor, low: float, high: float, eps: float = 1e-8
) -> float:
    """q = P / (N + eps) of the released code; infinity when there is no negative part."""
    bounded = torch.where(advantage_BT >= 0, ratio_BT.clamp(max=high), ratio_BT.clamp(min=low))
    value = bounded * advantage_BT * mask_BT
    positive, negative = float(value.clamp(min=0).sum()), float(-value.clamp(max=0).sum())
    return positive / (negative + eps) if negative > 0 else float("inf")


def positive_fraction(
    ratio_BT: Tensor, advantage_BT: Tensor, mask_BT: Tensor, old_logp_BT: Tensor, low: float, high: float
) -> float:
    """rho of eq. 8, read with sums of absolute values; infinity when no token contributes."""
    weight = old_logp_BT.exp() * mask_BT
    ra = ratio_BT * advantage_BT
    above = weight * torch.minimum(ra, ratio_BT.clamp(0, high) * advantage_BT)
    both = weight * torch.minimum(ra, ratio_BT.clamp(low, high) * advantage_BT)
    total = float(both.abs().sum())
    return float(above[advantage_BT > 0].abs().sum()) / total if total > 0 else float("inf")


@dataclass(frozen=True)
class SearchedBounds(Bounds):
    """Searches the bounds over the whole minibatch, from the start values at every update."""

    target: float
    low_start: float
    low_max: float
    low_step: float
    high_start: float
    high_max: float
    high_step: float
    search: str = "released"
    eps: float = 1e-8
    tolerance: float = 1e-9

    old_stats = (LOGP,)
    current_stats = (LOGP,)
    minibatch_scope = True

    def __call__(self, batch: Batch, current: Stats) -> Out[tuple[Tensor, Tensor]]:
        ratio = log_ratio(current["logp"], batch.old["logp"]).exp()
        mask = batch.train_mask_BT.to(ratio.dtype)
        low, high, balance = self.find(ratio, batch.advantages().to(ratio.dtype), mask, batch.old["logp"])
        metrics = {"bapo/low": low, "bapo/high": high}
        if math.isfinite(balance):  # infinite when no token has a negative advantage
            metrics["bapo/balance"] = balance
        return Out((ratio.new_tensor(low), ratio.new_tensor(high)), metrics)

    def find(
        self, ratio: Tensor, advantage: Tensor, mask: Tensor, old_logp: Tensor
    ) -> tuple[float, float, float]:
        """(low, high, balance at these bounds)."""
        low, high = self.low_start, self.high_start

        def balance() -> float:
            if self.search == "released":
                return positive_negative_ratio(ratio, advantage, mask, low, high, self.eps)
            return positive_fraction(ratio, advantage, mask, old_logp, low, high)

        if self.search == "released":
            while balance() < self.target and low < self.low_max:
                low = min(low + self.low_step, self.low_max)
            while balance() < self.target and high < self.high_max:
                high = min(high + self.high_step, self.high_max)
        else:
            # The tolerance: 0.6 plus fifteen times 0.02 exceeds 0.9 by rounding and must still be reached.
            while balance() < self.target and low + self.low_step <= self.low_max + self.tolerance:
                if high + self.high_step <= self.high_max + self.tolerance:
                    high += self.high_step
                else:
                    low += self.low_step
        return low, high, balance()


@register("bapo@released")
@dataclass(frozen=True)
class BAPOReleased(Method):
    """The official code: ratio target, lower bound first, dual clip."""

    target: float = hp(1.0, "positive / negative contribution to reach", gt=0)
    low_start: float = hp(0.6, "lower ratio bound before the search", ge=0, le=1)
    low_max: float = hp(0.8, "highest lower bound", ge=0, le=1)
    low_step: float = hp(0.05, "step of the lower bound", gt=0)
    high_start: float = hp(1.2, "upper ratio bound before the search", ge=1)
    high_max: float = hp(2.0, "highest upper bound", ge=1)
    high_step: float = hp(0.05, "step of the upper bound", gt=0)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    search = "released"

    def validate(self, run: RunConfig) -> None:
        for side in ("low", "high"):
            if getattr(self, f"{side}_start") > getattr(self, f"{side}_max"):
                raise UserError(f"method.{side}_start exceeds method.{side}_max; raise the maximum")
        refuse_single_update(run, "every ratio at 1, so BAPO does nothing")

    def stages(self) -> Stages:
        bounds = SearchedBounds(
            self.target, self.low_start, self.low_max, self.low_step,
            self.high_start, self.high_max, self.high_step, self.search,
        )  # fmt: skip
        loss = PolicyLoss(bounds=bounds, dual_clip=self.dual_clip, aggregation=self.aggregation)
        return grpo_stages().with_(loss=loss)


@register("bapo@paper")
@dataclass(frozen=True)
class BAPOPaper(BAPOReleased):
    """Algorithm 1: fraction target weighted by pi_old, upper bound first, no dual clip."""

    target: float = hp(0.4, "share of the contribution that comes from A > 0", gt=0, lt=1)
    low_max: float = hp(0.9, "highest lower bound", ge=0, le=1)
    low_step: float = hp(0.02, "step of the lower bound", gt=0)
    high_max: float = hp(3.0, "highest upper bound", ge=1)
    dual_clip: float | None = hp(None, "cap on -A r for A < 0; null is off", gt=1)

    search = "paper"
