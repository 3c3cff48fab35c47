r"""GMPO: geometric-mean policy optimisation (arXiv 2507.20673).

    d_t = logp_t - old_logp_t
    a_t = min(d_t, eps_high)     where A > 0
          max(d_t, -eps_low)     where A < 0
    R_i = exp( 1/len_i sum_t a_t )
    l_i = -A_i R_i

with GRPO's advantage A, averaged over responses. GRPO averages the tokens' ratios arithmetically, so one
extreme ratio dominates; in a geometric mean it does not. A token's log ratio is clipped on the harmful side
alone: it then has no gradient of its own, but counts in R. An unclipped token has -A_i R_i / len_i.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AbsoluteBounds,
    Batch,
    Method,
    PolicyLoss,
    RunConfig,
    Stages,
    Stats,
    TokenRatio,
    finite_exp,
    grpo_stages,
    hp,
    refuse_single_update,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

#: Mean over responses of a value that all tokens of a response share.
AGGREGATION = "seq-mean-token-mean"


def clipped_log_ratio(
    log_ratio_BT: Tensor, advantage_BT: Tensor, low: Tensor | float, high: Tensor | float
) -> Tensor:
    """a, ``[B,T]``; ``low`` and ``high`` bound the LOG ratio. 0 where A is 0, as in verl.

    A log ratio that lies on its bound is not clipped: it keeps its gradient.
    """
    low_t, high_t = (torch.as_tensor(bound, dtype=log_ratio_BT.dtype) for bound in (low, high))
    above = torch.where(advantage_BT > 0, torch.clamp(log_ratio_BT, max=high_t), 0.0)
    return torch.where(advantage_BT < 0, torch.clamp(log_ratio_BT, min=low_t), above)


def mean_log_ratio(clipped_BT: Tensor, mask_BT: Tensor, length_eps: float = 0.0) -> Tensor:
    """log R of each response at each of its tokens, ``[B,T]``: a token's gradient is that of its own a.

    Summed over a row and divided by its length, a loss in exp of it has value and gradient of one in R.
    """
    mask = mask_BT.bool()
    inside = torch.where(mask, clipped_BT, 0.0)
    length = mask.sum(1, keepdim=True).to(inside.dtype)
    divisor = length + length_eps if length_eps else length.clamp(min=1)
    own = (inside - inside.detach()) * (length / divisor)
    return own + inside.detach().sum(1, keepdim=True) / divisor


@dataclass(frozen=True)
class GeometricMeanLoss(PolicyLoss):
    """-A R at every token; ``bounds`` are those of a token's ratio."""

    surrogate: str = "geometric mean"
    aggregation: str = AGGREGATION
    length_eps: float = 0.0

    def of_advantage(self, advantage_BT: Tensor, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        log_r = self.ratio.log_ratio(batch, current)
        clipped = clipped_log_ratio(log_r, advantage_BT, prepared["low"].log(), prepared["high"].log())
        return -advantage_BT * finite_exp(mean_log_ratio(clipped, batch.mask_BT, self.length_eps))


@register("gmpo")
@dataclass(frozen=True)
class GMPO(Method):
    """GRPO with the geometric mean of one-sidedly clipped token ratios; the reduction is part of it."""

    eps_low: float = hp(0.4, "clip of a token's LOG ratio below 0, where A < 0", gt=0)
    eps_high: float = hp(0.4, "clip of a token's LOG ratio above 0, where A > 0", gt=0)

    def validate(self, run: RunConfig) -> None:
        refuse_single_update(run, "every ratio at 1, so GMPO is GRPO")

    def stages(self) -> Stages:
        bounds = AbsoluteBounds(math.exp(-self.eps_low), math.exp(min(self.eps_high, 700.0)))
        return grpo_stages().with_(loss=GeometricMeanLoss(TokenRatio(clamp=None), bounds))
