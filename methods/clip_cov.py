r"""Clip-Cov: the gradient of a few tokens of high covariance is dropped (arXiv 2505.22617, eq. 11-12).

    cov_t = (A_t - mean A) (logp_t - mean logp),       mean x = sum x / (N + 1e-8) over the N response tokens
    C = {t : w_low < cov_t < w_high, t not clipped already}
    loss = mean of c_t max(-A r_t, -A clip(r_t, 1 - eps_low, 1 + eps_high)),      no dual clip

with logp the CURRENT policy's and c_t = 0 for max(floor(share N), 1) tokens drawn from C without replacement,
1 for all others. Dropped tokens still count in the mean. Statistics are taken over the minibatch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    LOGP,
    Batch,
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    RunConfig,
    Stages,
    Stats,
    TokenRatio,
    TokenWeight,
    UserError,
    clipped_tokens,
    grpo_stages,
    hp,
    largest,
    register,
    share_of,
)

if TYPE_CHECKING:
    from torch import Tensor


def covariance(logp_BT: Tensor, advantage_BT: Tensor, mask_BT: Tensor, eps: float = 1e-8) -> Tensor:
    """Centred product of advantage and log-prob, ``[B,T]``; means over the mask, divisor count + ``eps``."""
    mask = mask_BT.to(logp_BT.dtype)
    count = mask.sum().clamp(min=1) + eps

    def centred(value: Tensor) -> Tensor:
        return value - torch.where(mask_BT.bool(), value, 0.0).sum() / count

    return centred(advantage_BT) * centred(logp_BT)


def candidates(cov_BT: Tensor, clipped_BT: Tensor, mask_BT: Tensor, w_low: float, w_high: float) -> Tensor:
    """Bool ``[B,T]``: response tokens strictly inside the band that the ratio bounds do not clip already."""
    return mask_BT.bool() & ~clipped_BT & (cov_BT > w_low) & (cov_BT < w_high)


def drawn(candidates_BT: Tensor, draw_BT: Tensor, n: int) -> Tensor:
    """Bool ``[B,T]``: the ``n`` candidates (or all, if fewer) with the smallest random numbers."""
    return largest(-draw_BT, candidates_BT, n)


@dataclass(frozen=True)
class CovarianceClip(TokenWeight):
    """0 on the drawn tokens, 1 elsewhere; ``eps_low`` and ``eps_high`` are the ratio bounds of the loss."""

    share: float
    w_low: float
    w_high: float
    eps_low: float
    eps_high: float
    mean_eps: float = 1e-8
    ratio: TokenRatio = TokenRatio(None)

    old_stats = (LOGP,)
    current_stats = (LOGP,)
    minibatch_scope = True
    needs_draws = True

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        logp, mask = current["logp"], batch.train_mask_BT
        advantage = batch.advantages().to(logp.dtype)
        ratio = self.ratio.ratio(batch, current)
        clipped, _ = clipped_tokens(ratio, advantage, 1 - self.eps_low, 1 + self.eps_high)
        cov = covariance(logp, advantage, mask, self.mean_eps)
        eligible = candidates(cov, clipped, mask, self.w_low, self.w_high)
        count = int(mask.sum())
        assert batch.draw_BT is not None
        dropped = drawn(eligible, batch.draw_BT, int(share_of(count, self.share)))
        inside = cov[mask] if count else cov.new_zeros(1)
        metrics = {
            "clip_cov/dropped": float(dropped.sum()) / max(count, 1),
            "clip_cov/candidates": float(eligible.sum()) / max(count, 1),
            "clip_cov/mean": float(inside.mean()),
            "clip_cov/max": float(inside.max()),
        }
        return Out((~dropped).to(logp.dtype), metrics)


@register("clip-cov")
@dataclass(frozen=True)
class ClipCov(Method):
    """GRPO in which a random few of the high-covariance tokens drop out."""

    share: float = hp(2e-4, "dropped tokens as a share of the minibatch's; at least one is drawn", gt=0, le=1)
    w_low: float = hp(1.0, "lower end of the covariance band (advantage x nats)")
    w_high: float = hp(5.0, "upper end of the covariance band (advantage x nats)")
    eps_low: float = hp(1.0, "ratio clip below 1; 1 never clips", ge=0, le=1)
    eps_high: float = hp(1.0, "ratio clip above 1", ge=0)
    aggregation: str = hp("token-mean", "reduction; dropped tokens are counted", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if self.w_low >= self.w_high:
            raise UserError(
                "method.w_low is not below method.w_high, so no token is eligible and Clip-Cov does nothing; "
                "lower method.w_low"
            )

    def stages(self) -> Stages:
        weight = CovarianceClip(self.share, self.w_low, self.w_high, self.eps_low, self.eps_high)
        return grpo_stages().with_(
            loss=PolicyLoss(
                ratio=weight.ratio,
                bounds=FixedBounds(self.eps_low, self.eps_high),
                weight=weight,
                aggregation=self.aggregation,
            )
        )
