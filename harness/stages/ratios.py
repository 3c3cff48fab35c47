"""Ratios to another policy than the one before the update, or over more than a token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from harness.stages.base import Stats
from harness.stages.batch import Batch
from harness.stages.loss import TokenRatio, log_ratio

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class BehaviourRatio(TokenRatio):
    """log r_t = logp_t - rollout_logp_t: to the policy that sampled, as it gave its log-probs itself.

    ``straight`` keeps the gradient of a token whose log ratio is clamped: the clamp bounds its value alone.
    A run's own correction of rollouts would count a second time and is refused.
    """

    straight: bool = False

    corrects_rollouts = True

    def log_ratio(self, batch: Batch, current: Stats) -> Tensor:
        logp, sampled = current["logp"], batch.rollout_logp_BT.to(current["logp"].dtype)
        own = log_ratio(logp, sampled, self.clamp)
        return logp - logp.detach() + own.detach() if self.straight else own


@dataclass(frozen=True)
class ResponseRatio(TokenRatio):
    """log s = sum over the response's tokens of (logp - old_logp), on every token (arXiv 2402.14740; TRL).

    The gradient goes through the sum, so a mean over tokens of a loss in s is that loss. Not clamped.
    """

    clamp: float | None = None

    def log_ratio(self, batch: Batch, current: Stats) -> Tensor:
        own = log_ratio(current["logp"], batch.old["logp"], self.clamp)
        total_B1 = torch.where(batch.mask_BT, own, 0.0).sum(1, keepdim=True)
        return total_B1.expand(own.shape)


def segment_numbers(closes_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Segment of each token, ``[B,T]`` int64, -1 on padding: a token that closes a segment belongs to it."""
    mask = mask_BT.bool()
    closed_before = (closes_BT & mask).long().cumsum(1) - (closes_BT & mask).long()
    return torch.where(mask, closed_before, -1)


def segment_means(value_BT: Tensor, segment_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The mean of ``value_BT`` over the token's segment, on each of its tokens, ``[B,T]``; 0 on padding."""
    mask = mask_BT.bool()
    value, index = torch.where(mask, value_BT, 0.0), torch.where(mask, segment_BT, 0)
    zeros = value.new_zeros(len(value), int(index.max()) + 1 if index.numel() else 1)
    total = zeros.scatter_add(1, index, value)
    count = zeros.scatter_add(1, index, mask.to(value.dtype)).clamp(min=1)
    return torch.where(mask, (total / count).gather(1, index), 0.0)


@dataclass(frozen=True)
class SegmentRatio(TokenRatio):
    """s of a segment at each of its tokens, the geometric mean of their ratios, in GSPO's token form.

    A token's gradient with respect to its own log-prob is s. The segments are the batch's ``segment_BT``.
    """

    clamp: float | None = None

    def log_ratio(self, batch: Batch, current: Stats) -> Tensor:
        if batch.segment_BT is None:
            raise ValueError("the batch has no segments: a selection stage has to set segment_BT")
        logp = current["logp"]
        own = log_ratio(logp.detach(), batch.old["logp"], self.clamp)
        return logp - logp.detach() + segment_means(own, batch.segment_BT, batch.mask_BT)


def prefix_minimum(log_ratio_BT: Tensor, mask_BT: Tensor, *, at_most: float = math.inf) -> Tensor:
    """The smallest log ratio among the strictly earlier response tokens, ``[B,T]``; 0 where there are none.

    Args:
        at_most: the running minimum starts here (0: a prefix never raises a ratio); infinity is no start.

    Positions outside the mask neither enter the minimum nor end it.
    """
    start = torch.full_like(log_ratio_BT[:, :1], at_most)
    entering = torch.where(mask_BT.bool(), log_ratio_BT, math.inf)
    before = torch.cat([start, entering[:, :-1]], 1).cummin(1).values
    return torch.where(before.isposinf(), 0.0, before)


@dataclass(frozen=True)
class PrefixMinimumRatio(TokenRatio):
    """log r_t = min over earlier tokens of their log ratio + the token's own (arXiv 2601.22718).

    The token's own part carries the gradient; ``at_most`` is that of :func:`prefix_minimum`.
    """

    clamp: float | None = None
    at_most: float = math.inf

    def log_ratio(self, batch: Batch, current: Stats) -> Tensor:
        own = log_ratio(current["logp"], batch.old["logp"], self.clamp)
        return own + prefix_minimum(own.detach(), batch.mask_BT, at_most=self.at_most)
