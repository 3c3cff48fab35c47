r"""Shaping by perplexity or by position (arXiv 2508.02260) - a RECONSTRUCTION of the details.

Two separate ways to shape GRPO's advantage A, meant for the plateau of training:

    ppl        log PPL_i = -mean_t old_logp_it,   w_i = (log PPL_i - mu) / (sigma + 1e-8)
               A'_i  = A_i (1 - alpha w_i)
    position   b_it  = gamma sigmoid(d t / L_i),   t = 1 .. L_i
               A'_it = A_i + sign(A_i) b_it

Responses of low perplexity, or late tokens, learn more. w and b are constants. That w is standardised, that b
grows with the relative position and keeps A's sign is the paper's; the set that mu and sigma are taken over,
ddof 1, the sigmoid and all numbers are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    LOGP,
    Advantage,
    Batch,
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    RunConfig,
    Stages,
    StepContext,
    UserError,
    aggregate,
    group_mean_std,
    group_normalised,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

SHAPINGS = ("ppl", "position")
SCOPES = ("group", "batch")


def log_perplexity(logp_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean of -logp over the response, ``[B]``, nats; 0 for an empty one."""
    mask = mask_BT.bool()
    return -torch.where(mask, logp_BT, 0.0).sum(1) / mask.sum(1).clamp(min=1)


def standardised(
    log_ppl_B: Tensor, group_B: Tensor, scope: str = "group", *, ddof: int = 1, eps: float = 1e-8
) -> Tensor:
    """w, ``[B]``: ``(value - mu) / (sigma + eps)`` over the group, or over the whole batch."""
    scope_B = torch.zeros_like(group_B) if scope == "batch" else group_B
    mean, std = group_mean_std(log_ppl_B, scope_B, ddof=ddof)
    return (log_ppl_B - mean) / (std + eps)


def by_perplexity(advantage_B: Tensor, w_B: Tensor, alpha: float, keep_sign: bool = False) -> Tensor:
    """A (1 - alpha w), ``[B]``; ``keep_sign`` holds the factor at 0 or above."""
    factor = 1 - alpha * w_B
    return advantage_B * (factor.clamp(min=0) if keep_sign else factor)


def position_bonus(mask_BT: Tensor, gamma: float, d: float) -> Tensor:
    """b, ``[B,T]``; 0 on padding."""
    mask = mask_BT.bool()
    share = mask.cumsum(1).double() / mask.sum(1, keepdim=True).clamp(min=1)
    return torch.where(mask, gamma * torch.sigmoid(d * share), 0.0)


def by_position(advantage_B: Tensor, bonus_BT: Tensor) -> Tensor:
    """A + sign(A) b, ``[B,T]``; 0 where A is 0."""
    return advantage_B[:, None] + advantage_B.sign()[:, None] * bonus_BT.to(advantage_B.dtype)


@dataclass(frozen=True)
class PerplexityShaped(Advantage):
    """GRPO's advantage, larger where the response was likely."""

    alpha: float
    scope: str
    keep_sign: bool

    old_stats = (LOGP,)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        advantage = group_normalised(batch.rewards(), batch.group_B)
        log_ppl = log_perplexity(batch.old["logp"], batch.mask_BT)
        w = standardised(log_ppl, batch.group_B, self.scope).to(advantage.dtype)
        metrics = {
            "entropy_exchange/log_ppl": float(log_ppl.mean()),
            "entropy_exchange/flipped": float((self.alpha * w > 1).double().mean()),
        }
        return Out(by_perplexity(advantage, w, self.alpha, self.keep_sign), metrics)


@dataclass(frozen=True)
class PositionShaped(Advantage):
    """GRPO's advantage with a bonus of its own sign that follows the place in the response."""

    gamma: float
    d: float

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        advantage = group_normalised(batch.rewards(), batch.group_B)
        bonus = position_bonus(batch.mask_BT, self.gamma, self.d)
        mean = float(aggregate("token-mean", bonus, batch.mask_BT))
        return Out(by_position(advantage, bonus), {"entropy_exchange/bonus": mean})


@register("entropy-exchange")
@dataclass(frozen=True)
class EntropyExchange(Method):
    """GRPO with an advantage shaped by perplexity or by position."""

    shaping: str = hp("ppl", "what shapes the advantage", choices=SHAPINGS)
    alpha: float = hp(0.1, "ppl: size of the factor's change; unverified", gt=0)
    scope: str = hp("group", "ppl: what perplexities are standardised over; unverified", choices=SCOPES)
    keep_sign: bool = hp(False, "ppl: the factor stays at 0 or above (ours)")
    gamma: float = hp(0.1, "position: largest bonus; unverified", gt=0)
    d: float = hp(2.0, "position: > 0 rewards the end, < 0 the start; unverified")
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    aggregation: str = hp("seq-mean-token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if run.rollout.group_size < 2 and self.shaping == "ppl" and self.scope == "group":
            raise UserError(
                "a group of one has no spread of perplexities; use rollout.group_size >= 2 or "
                "method.scope=batch"
            )
        if self.shaping == "position" and self.d == 0:
            raise UserError("method.d=0 gives every position the same bonus; use d > 0 or d < 0")

    def stages(self) -> Stages:
        advantage: Advantage = PositionShaped(self.gamma, self.d)
        if self.shaping == "ppl":
            advantage = PerplexityShaped(self.alpha, self.scope, self.keep_sign)
        bounds = FixedBounds(self.eps_low, self.eps_high)
        return grpo_stages().with_(
            advantage=advantage, loss=PolicyLoss(bounds=bounds, aggregation=self.aggregation)
        )
