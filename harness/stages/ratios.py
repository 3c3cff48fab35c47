"""Ratios over more than a token and less than a response."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Batch
from harness.stages.base import Stats
from harness.stages.loss import TokenRatio, log_ratio


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
