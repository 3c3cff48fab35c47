r"""Entrocraft: precise entropy-curve control by rejecting advantage signs (arXiv 2604.26326).

H is the token-mean entropy of the rollout batch under the policy about to be updated; the band moves with
u, the share of the run that is used: lo = lo_0 + (lo_1 - lo_0) f(u), hi likewise, f linear or cosine.

``entrocraft@released`` (official code):  H > hi: A = max(R, 0);  H < lo: A = min(R, 0);  else GRPO's A
                                          (raw reward R in {-1, +1}: no baseline, no std)
``entrocraft@paper`` (Algorithm 1):       keep rollout i iff g A_i >= 0, g = 1[H > hi] - 1[H < lo],
                                          with GRPO's A; means run over the kept rollouts only
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    ENTROPY,
    Advantage,
    Batch,
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    ReferenceKL,
    RunConfig,
    Selection,
    Stages,
    StepContext,
    UserError,
    VerdictReward,
    group_normalised,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

SCHEDULES = ("linear", "cosine", "constant")


def scheduled(start: float, end: float, u: float, schedule: str) -> float:
    """Value at fraction ``u`` of the run; ``constant`` stays at ``start``."""
    f = {"linear": u, "cosine": (1 - math.cos(math.pi * u)) / 2, "constant": 0.0}[schedule]
    return start + (end - start) * f


def gate(entropy: float, lo: float, hi: float) -> int:
    """g: +1 above the band, -1 below it, 0 inside; the edges count as inside."""
    return int(entropy > hi) - int(entropy < lo)


def gated_rewards(reward_B: Tensor, advantage_B: Tensor, g: int) -> Tensor:
    """Released form: the advantages inside the band, else the raw reward of one sign, ``[B]``."""
    if g == 0:
        return advantage_B
    return reward_B.clamp(min=0) if g > 0 else reward_B.clamp(max=0)


def kept_rollouts(advantage_B: Tensor, g: int) -> Tensor:
    """Paper form: bool ``[B]``, g A >= 0; rollouts of zero advantage are always kept."""
    return g * advantage_B >= 0


def entropic(
    reward_B: Tensor, entropy: float, target: float, integral: float, kp: float = 1.0, ki: float = 0.01
) -> tuple[Tensor, float]:
    """EntroPIC, the repository's baseline (not an entry): advantages ``[B]`` and the next integral."""
    alpha = integral + kp * (entropy - target)
    scale = 1 + alpha * torch.where(reward_B > 0, 1.0, -1.0).to(reward_B.dtype)
    return reward_B * scale, integral + ki * (entropy - target)


@dataclass(frozen=True)
class Band:
    """The scheduled band."""

    lo_start: float
    lo_end: float
    hi_start: float
    hi_end: float
    schedule: str

    def at(self, u: float) -> tuple[float, float]:
        return (
            scheduled(self.lo_start, self.lo_end, u, self.schedule),
            scheduled(self.hi_start, self.hi_end, u, self.schedule),
        )

    def gate(self, batch: Batch, ctx: StepContext) -> Out[int]:
        """The gate of this batch, from its token-mean old entropy."""
        lo, hi = self.at(ctx.fraction)
        mask = batch.mask_BT.to(batch.old["entropy"].dtype)
        entropy = float((batch.old["entropy"] * mask).sum() / mask.sum().clamp(min=1))
        g = gate(entropy, lo, hi)
        metrics = {"entrocraft/lo": lo, "entrocraft/hi": hi, "entrocraft/gate": g}
        error = max(lo - entropy, entropy - hi, 0.0)
        return Out(g, metrics | {"target_error": error, "target_above": float(entropy > hi)})


@dataclass(frozen=True)
class GatedAdvantage(Advantage):
    """Released: outside the band the raw reward of one sign replaces the advantage."""

    band: Band
    old_stats = (ENTROPY,)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        g = self.band.gate(batch, ctx)
        reward = batch.rewards()
        return Out(gated_rewards(reward, group_normalised(reward, batch.group_B), g.value), g.metrics)


@dataclass(frozen=True)
class RejectSign(Selection):
    """Paper: outside the band rollouts of the wrong sign are dropped, so nothing counts them."""

    band: Band
    old_stats = (ENTROPY,)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        g = self.band.gate(batch, ctx)
        # A rollout has one advantage on all its tokens; every response has a first token.
        keep = kept_rollouts(batch.advantages()[:, 0], g.value)
        return Out(batch.rows(keep), {**g.metrics, "entrocraft/kept_share": float(keep.float().mean())})


@register("entrocraft@released")
@dataclass(frozen=True)
class EntrocraftReleased(Method):
    """GRPO whose advantages are replaced by one-signed raw rewards outside an entropy band."""

    lo_start: float = hp(0.6, "lower edge of the band at the start, nats")
    lo_end: float = hp(0.4, "lower edge at the end, nats")
    hi_start: float = hp(0.7, "upper edge at the start, nats")
    hi_end: float = hp(0.5, "upper edge at the end, nats")
    schedule: str = hp("linear", "how the band moves over the run", choices=SCHEDULES)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0 (verl); null is off", gt=1)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)
    kl_coef: float = hp(0.0, "weight of the k3 KL to the reference (the paper's runs 0.001)", ge=0)

    def validate(self, run: RunConfig) -> None:
        if self.lo_start > self.hi_start or self.lo_end > self.hi_end:
            raise UserError("the band is upside down: keep method.lo_start <= hi_start and lo_end <= hi_end")

    def band(self) -> Band:
        return Band(self.lo_start, self.lo_end, self.hi_start, self.hi_end, self.schedule)

    def stages(self) -> Stages:
        bounds = FixedBounds(self.eps_low, self.eps_high)
        return grpo_stages().with_(
            reward=VerdictReward(right=1.0, wrong=-1.0),  # with 0/1 nothing would be left below the band
            advantage=GatedAdvantage(self.band()),
            loss=PolicyLoss(bounds=bounds, dual_clip=self.dual_clip, aggregation=self.aggregation),
            regularisers=(ReferenceKL(self.kl_coef, "k3", self.aggregation),) if self.kl_coef else (),
        )


@register("entrocraft@paper")
@dataclass(frozen=True)
class EntrocraftPaper(EntrocraftReleased):
    """GRPO that learns outside an entropy band only from advantages of one sign."""

    def stages(self) -> Stages:
        return super().stages().with_(advantage=grpo_stages().advantage, selection=RejectSign(self.band()))
