r"""Clip_B and Clip_V: penalties that would drive entropy down are left out (arXiv 2602.03392).

    S = p (H + ln p)              discriminator: a step on the sampled token's logit changes entropy by -eps S
    D = E_{v~p} S_v - S           a GRPO step changes it by about eps A D: for A < 0 it falls where D is large

p and H are of the policy before the update. Once per rollout batch of n tokens, std with divisor n:

    Clip_B: token out iff A < 0 and S - mean S < -mu std S        (nothing where std S < 1e-12)
    Clip_V: token out iff A <= 0 and D > mu std D, where of A < 0 only the max(floor(f n), 1) largest D are
            out when it would be more than the share f of all tokens

Tokens that are out leave the loss and its denominator; then GRPO's clipped loss runs on the others.
"""

from __future__ import annotations

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
    Selection,
    Stages,
    StepContext,
    TokenStat,
    grpo_stages,
    hp,
    largest,
    register,
    share_of,
)
from methods.entropy_polarity import FACTOR

if TYPE_CHECKING:
    from torch import Tensor


def discriminator(logp_BT: Tensor, entropy_BT: Tensor) -> Tensor:
    """S, ``[B,T]``."""
    return logp_BT.exp() * (entropy_BT + logp_BT)


def mean_std(value_BT: Tensor, mask_BT: Tensor) -> tuple[float, float]:
    """Mean and population standard deviation over the mask."""
    inside = value_BT[mask_BT.bool()].double()
    if not len(inside):
        return 0.0, 0.0
    return float(inside.mean()), float(inside.std(correction=0))


def removed_by_discriminator(
    s_BT: Tensor, advantage_BT: Tensor, mask_BT: Tensor, mu: float, min_std: float = 1e-12
) -> Tensor:
    """Clip_B: bool ``[B,T]``, tokens that do not train."""
    mean, std = mean_std(s_BT, mask_BT)
    if std < min_std:
        return torch.zeros_like(mask_BT, dtype=torch.bool)
    return mask_BT.bool() & (advantage_BT < 0) & (s_BT - mean < -mu * std)


def removed_by_change(
    d_BT: Tensor, advantage_BT: Tensor, mask_BT: Tensor, mu: float, max_fraction: float
) -> Tensor:
    """Clip_V: bool ``[B,T]``, tokens that do not train; D is not centred."""
    mask = mask_BT.bool()
    tokens, (_, std) = int(mask.sum()), mean_std(d_BT, mask_BT)
    out = mask & ~(advantage_BT > 0) & (d_BT > mu * std)
    if int(out.sum()) <= max_fraction * tokens:
        return out
    negative = out & (advantage_BT < 0)
    return (out & ~negative) | largest(d_BT, negative, int(share_of(tokens, max_fraction)))


@dataclass(frozen=True)
class ClipDiscriminator(Selection):
    """Clip_B's selection, over the whole rollout batch."""

    mu: float
    min_std: float = 1e-12

    old_stats: tuple[TokenStat, ...] = (LOGP, ENTROPY)

    def removed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The tokens that are out, and the signal they were chosen by; ``[B,T]`` each."""
        signal = discriminator(batch.old["logp"], batch.old["entropy"])
        return removed_by_discriminator(
            signal, batch.advantages(), batch.train_mask_BT, self.mu, self.min_std
        ), signal

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        mask = batch.train_mask_BT
        out, signal = self.removed(batch)
        mean, std = mean_std(signal, mask)
        metrics = {
            "discriminator/removed": float(out.sum()) / max(int(mask.sum()), 1),
            "discriminator/mean": mean,
            "discriminator/std": std,
        }
        return Out(batch.with_(loss_mask_BT=mask & ~out), metrics)


@dataclass(frozen=True)
class ClipChange(ClipDiscriminator):
    """Clip_V's selection, over the whole rollout batch."""

    max_fraction: float = 1e-4

    old_stats: tuple[TokenStat, ...] = (LOGP, FACTOR)

    def removed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        d, mask = batch.old[FACTOR.name], batch.train_mask_BT
        return removed_by_change(d, batch.advantages(), mask, self.mu, self.max_fraction), d


@register("entropy-discriminator-clip@b")
@dataclass(frozen=True)
class ClipB(Method):
    """GRPO without the penalties on tokens of the lowest discriminator."""

    mu: float = hp(2.5, "standard deviations below the mean (paper 2.0 to 3.0)", gt=0)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp(
        "token-mean", "reduction; tokens that are out are not counted", choices=AGGREGATIONS
    )

    def selection(self) -> ClipDiscriminator:
        return ClipDiscriminator(self.mu)

    def stages(self) -> Stages:
        loss = PolicyLoss(
            bounds=FixedBounds(self.eps_low, self.eps_high),
            dual_clip=self.dual_clip,
            aggregation=self.aggregation,
        )
        return grpo_stages().with_(selection=self.selection(), loss=loss)


@register("entropy-discriminator-clip@v")
@dataclass(frozen=True)
class ClipV(ClipB):
    """GRPO without the few penalties that would lower entropy most."""

    mu: float = hp(8.5, "standard deviations (paper 7.5 to 8.5; the code's default is 2)", gt=0)
    max_fraction: float = hp(
        1e-4, "largest share of tokens that is left out; at least one token may be", gt=0, le=1
    )

    def selection(self) -> ClipDiscriminator:
        return ClipChange(self.mu, max_fraction=self.max_fraction)
