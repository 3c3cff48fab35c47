r"""M2PO: the second moment of the log ratio as the trust region (arXiv 2510.01161).

d_t = logp_t - log-prob under the policy that sampled, v_t = d_t^2. T are the tokens that a clip could act on:
A > 0 and d > 0, or A < 0 and d < 0. tau2 is the budget of a whole minibatch.

    m2po@paper      while the mean of v over T exceeds tau2: drop the token of T with the largest v
                    loss = sum of -A exp(d) over the other tokens / number of ALL response tokens
    m2po@released   if the mean of v over T exceeds tau2: v_0 <= v_1 <= ... sorted, N = |T|,
                        k = first with  sum_{i<=k} v_i + (N - k - 1)(v_k - 1e-12) >= N tau2 - 1e-12
                        t = sqrt(v_{k-1} - 1e-12), 0 where k = 0
                    then PPO's clip to [exp(-t), exp(t)], token mean; no bounds within the budget
    m2po@areal      v between the sampler and the policy before the update, over ALL response tokens: the
                    largest are dropped until the mean of the rest is below tau2, one stays; PPO's clip on the
                    ratio to the policy before the update, mean over the tokens that are left
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    LOGP,
    Batch,
    BehaviourRatio,
    Bounds,
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    RunConfig,
    Selection,
    Stages,
    Stats,
    StepContext,
    TokenRatio,
    TokenWeight,
    UserError,
    grpo_stages,
    hp,
    refuse_single_update,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

#: Ratio bounds of the release where the budget is met.
NO_BOUNDS = (0.0, 1e5)


def clippable(log_ratio_BT: Tensor, advantage_BT: Tensor, mask_BT: Tensor, margin: float = 0.0) -> Tensor:
    """T, bool ``[B,T]``: advantage and log ratio have one sign and exceed ``margin``."""
    up = (advantage_BT > margin) & (log_ratio_BT > margin)
    down = (advantage_BT < -margin) & (log_ratio_BT < -margin)
    return mask_BT.bool() & (up | down)


def within_budget(
    square_BT: Tensor, region_BT: Tensor, budget: float, *, strict: bool = False, least: int = 0
) -> Tensor:
    """Bool ``[B,T]``: the smallest squares of the region whose mean is at most ``budget``; False elsewhere.

    Args:
        strict: the mean has to be below the budget.
        least: so many are kept in any case.

    Dropping the largest one by one until the mean fits leaves the same: the running mean of sorted numbers
    never falls.
    """
    value_N = square_BT[region_BT].double()
    ascending = value_N.argsort(stable=True)
    mean_N = value_N[ascending].cumsum(0) / torch.arange(1, len(value_N) + 1)
    fits = mean_N < budget if strict else mean_N <= budget
    kept_N = torch.zeros(len(value_N), dtype=torch.bool)
    kept_N[ascending[: max(int(fits.sum()), least)]] = True
    kept = torch.zeros_like(region_BT, dtype=torch.bool)
    kept[region_BT] = kept_N
    return kept


def mean_square(square_BT: Tensor, where_BT: Tensor) -> float:
    """Mean over ``where_BT``; 0 over nothing."""
    inside = square_BT[where_BT].double()
    return float(inside.mean()) if len(inside) else 0.0


def budget_bound(square_N: Tensor, budget: float, eps: float = 1e-12) -> float | None:
    """t of the release; None where the mean of the squares is within the budget."""
    value = square_N.double().sort().values
    n = len(value)
    if not n or float(value.mean()) <= budget + eps:
        return None
    above = n - 1 - torch.arange(n)
    capped = value.cumsum(0) + above * (value - eps)
    reached = (capped >= n * budget - eps).nonzero()
    k = int(reached[0]) if len(reached) else n - 1
    return math.sqrt(max(float(value[k - 1]) - eps, 0.0)) if k else 0.0


def ratio_bounds(t: float | None, floors: tuple[float | None, float | None]) -> tuple[float, float]:
    """The release's ratio bounds; ``floors`` are the least distances from 1, below and above."""
    if t is None:
        return NO_BOUNDS
    low, high = 1 - math.exp(-t), math.expm1(t)
    return 1 - max(low, floors[0] or 0.0), 1 + max(high, floors[1] or 0.0)


def distance(batch: Batch, current: Stats) -> Tensor:
    """d, ``[B,T]``."""
    return current["logp"] - batch.rollout_logp_BT.to(current["logp"].dtype)


@dataclass(frozen=True)
class MomentMask(TokenWeight):
    """0 on the tokens that the paper drops, 1 elsewhere; over the whole minibatch."""

    budget: float

    current_stats = (LOGP,)
    minibatch_scope = True
    corrects_rollouts = True

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        d, mask = distance(batch, current), batch.train_mask_BT
        region = clippable(d, batch.advantages(), mask)
        kept = within_budget(d**2, region, self.budget)
        metrics = {
            "m2po/before": mean_square(d**2, region),
            "m2po/after": mean_square(d**2, kept),
            "m2po/dropped": float((region & ~kept).sum()) / max(int(mask.sum()), 1),
        }
        return Out((kept | ~region).to(d.dtype), metrics)


@dataclass(frozen=True)
class MomentBounds(Bounds):
    """The release's bounds, from the whole minibatch."""

    budget: float
    floors: tuple[float | None, float | None] = (None, None)
    eps: float = 1e-12

    current_stats = (LOGP,)
    minibatch_scope = True
    corrects_rollouts = True

    def __call__(self, batch: Batch, current: Stats) -> Out[tuple[Tensor, Tensor]]:
        d = distance(batch, current)
        sign_B1 = batch.advantages()[:, :1]  # the release reads a row's sign from its first column
        region = clippable(d, sign_B1, batch.train_mask_BT, self.eps)
        t = budget_bound((d**2)[region], self.budget, self.eps)
        if t is not None:  # the token that it comes from is clipped in any type: 1e-12 is lost in float32
            t = max(t - 4 * torch.finfo(d.dtype).eps, 0.0)
        low, high = ratio_bounds(t, self.floors)
        metrics = {"m2po/before": mean_square(d**2, region), "m2po/low": low, "m2po/high": high}
        return Out((d.new_tensor(low), d.new_tensor(high)), metrics)


@dataclass(frozen=True)
class StaleSelection(Selection):
    """Drops the tokens that moved most between sampling and the update, once over the step's rollouts."""

    budget: float

    old_stats = (LOGP,)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        mask = batch.train_mask_BT.bool()
        square = (batch.old["logp"] - batch.rollout_logp_BT.to(batch.old["logp"].dtype)) ** 2
        kept = within_budget(square, mask, self.budget, strict=True, least=1)
        metrics = {
            "m2po/before": mean_square(square, mask),
            "m2po/after": mean_square(square, kept),
            "m2po/dropped": float((mask & ~kept).sum()) / max(int(mask.sum()), 1),
        }
        return Out(batch.with_(loss_mask_BT=kept), metrics)


@register("m2po@paper")
@dataclass(frozen=True)
class M2POPaper(Method):
    """An importance-weighted policy gradient without a clip that drops its few largest offenders."""

    m2_threshold: float = hp(0.04, "largest mean square of the log ratio over T, nats squared", gt=0)

    def validate(self, run: RunConfig) -> None:
        if not run.rollout.lag:
            refuse_single_update(run, "every log ratio at 0, so M2PO is GRPO without a clip")

    def stages(self) -> Stages:
        loss = PolicyLoss(
            BehaviourRatio(straight=True), FixedBounds(math.inf, math.inf), MomentMask(self.m2_threshold),
            aggregation="token-mean",
        )  # fmt: skip
        return grpo_stages().with_(loss=loss)


@register("m2po@released")
@dataclass(frozen=True)
class M2POReleased(M2POPaper):
    """GRPO whose ratio bounds are as wide as the budget of the minibatch allows."""

    miniclip_low: float | None = hp(None, "least distance of the lower bound from 1; null is 0", ge=0, lt=1)
    miniclip_high: float | None = hp(None, "least distance of the upper bound from 1; null is 0", ge=0)

    def stages(self) -> Stages:
        bounds = MomentBounds(self.m2_threshold, (self.miniclip_low, self.miniclip_high))
        return grpo_stages().with_(
            loss=PolicyLoss(BehaviourRatio(clamp=None), bounds, aggregation="token-mean")
        )


@register("m2po@areal")
@dataclass(frozen=True)
class M2POAReaL(Method):
    """GRPO without the tokens whose probability moved most while their rollouts waited."""

    m2_threshold: float = hp(0.04, "bound on the mean square log ratio of what is left, nats squared", gt=0)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)

    def validate(self, run: RunConfig) -> None:
        if run.rollout.lag and run.rollout.ratio_to == "sampling":
            raise UserError(
                "m2po@areal compares the sampler with the policy before the update, which rollout.ratio_to="
                "sampling takes for one; write rollout.ratio_to=update"
            )

    def stages(self) -> Stages:
        bounds = FixedBounds(self.eps_low, self.eps_high)
        loss = PolicyLoss(TokenRatio(clamp=None), bounds, aggregation="token-mean")
        return grpo_stages().with_(selection=StaleSelection(self.m2_threshold), loss=loss)
