r"""KL-Cov: a penalty on the tokens of the highest covariance (arXiv 2505.22617, eq. 14).

    cov_t = (A_t - mean A) (logp_t - mean logp)        plain means over the N response tokens of the minibatch
    S = the max(floor(share N), 1) tokens of largest cov
    loss = mean of -A r_t  +  mean of beta |logp_t - old_logp_t| [t in S]

with logp the CURRENT policy's and r not clipped at all. The paper writes a KL divergence, its listing and the
official code take the absolute log-ratio. At the first update of a rollout batch the log-ratio is 0, and so
are the penalty and its gradient; a log-ratio within ROUNDING of 0 is taken as 0, so that the sign of the
rounding error between two forward passes is not followed.
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
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    Regulariser,
    RunConfig,
    Stages,
    Stats,
    TokenRatio,
    grpo_stages,
    hp,
    kl_estimate,
    largest,
    refuse_single_update,
    register,
    share_of,
)
from methods.clip_cov import covariance

if TYPE_CHECKING:
    from torch import Tensor

#: Log-ratios (nats) that two passes of one fp32 policy over differently packed rows differ by at most.
ROUNDING = 1e-5


def distance(logp_BT: Tensor, old_logp_BT: Tensor, rounding: float = ROUNDING) -> Tensor:
    """``|logp - old_logp|``, ``[B,T]``; 0 without a gradient where it is at most ``rounding``."""
    absolute = kl_estimate("abs", logp_BT, old_logp_BT)
    return torch.where(absolute > rounding, absolute, 0.0)


@dataclass(frozen=True)
class CovarianceKL(Regulariser):
    """``beta * |logp - old_logp|`` on the tokens of largest covariance of the minibatch, 0 elsewhere."""

    share: float
    beta: float
    aggregation: str = "token-mean"
    rounding: float = ROUNDING

    old_stats = (LOGP,)
    current_stats = (LOGP,)
    minibatch_scope = True

    def coefficient(self) -> float:
        return self.beta

    def prepare(self, batch: Batch, current: Stats) -> Out[dict[str, Tensor]]:
        logp, mask = current["logp"], batch.train_mask_BT
        cov = covariance(logp, batch.advantages().to(logp.dtype), mask, eps=0.0)
        count = int(mask.sum())
        chosen = largest(cov, mask, int(share_of(count, self.share)))
        moved = distance(logp, batch.old["logp"], self.rounding)[chosen]
        inside = cov[mask] if count else cov.new_zeros(1)
        metrics = {
            "kl_cov/selected": float(chosen.sum()) / max(count, 1),
            "kl_cov/mean": float(inside.mean()),
            "kl_cov/threshold": float(cov[chosen].min()) if len(moved) else 0.0,
            "kl_cov/max": float(inside.max()),
            "kl_cov/distance": float(moved.mean()) if len(moved) else 0.0,
        }
        return Out({"chosen": chosen.to(logp.dtype)}, metrics)

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        return distance(current["logp"], batch.old["logp"], self.rounding) * prepared["chosen"]


@register("kl-cov")
@dataclass(frozen=True)
class KLCov(Method):
    """The unclipped policy gradient with a penalty where covariance is largest."""

    share: float = hp(2e-3, "penalised tokens as a share of the minibatch's; at least one", gt=0, le=1)
    beta: float = hp(1.0, "weight of the penalty on the absolute log-ratio", gt=0)
    aggregation: str = hp("token-mean", "reduction of loss and penalty", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        refuse_single_update(run, "current equal to old, so KL-Cov does nothing")

    def stages(self) -> Stages:
        return grpo_stages().with_(
            loss=PolicyLoss(
                ratio=TokenRatio(None), bounds=FixedBounds(1.0, math.inf), aggregation=self.aggregation
            ),
            regularisers=(CovarianceKL(self.share, self.beta, self.aggregation),),
        )
