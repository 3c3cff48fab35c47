r"""CE-GPPO: clipped tokens keep a bounded gradient (arXiv 2509.20712; GPPO: arXiv 2508.07629, eq. 11-18).

    r_t = exp(logp_t - old_logp_t),     sg = stop-gradient
    l_t = -beta1 (1 - eps_low) (r_t / sg r_t) A     where A < 0 and r_t < 1 - eps_low
          -beta2 (1 + eps_high) (r_t / sg r_t) A    where A > 0 and r_t > 1 + eps_high
          -r_t A                                    elsewhere

with GRPO's advantage A, averaged over tokens. PPO drops the tokens of the first two lines. Those of the
second are mostly rare tokens that keep entropy up, those of the first rare tokens whose fall lowers it: two
coefficients steer it. beta1 = beta2 = 1 is GPPO, 0 has the gradient of PPO-clip.

``ce-gppo@released`` also caps the loss at -c A where A < 0, and adds kappa times the token mean of -logp over
the responses of the right reward.
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
    PolicyLoss,
    Regulariser,
    RunConfig,
    Stages,
    Stats,
    TokenRatio,
    grpo_stages,
    hp,
    refuse_single_update,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


def preserved_surrogate(
    log_ratio_BT: Tensor,
    ratio_BT: Tensor,
    advantage_BT: Tensor,
    low: Tensor | float,
    high: Tensor | float,
    beta: tuple[float, float],
    dual_clip: float | None = None,
) -> Tensor:
    """l, ``[B,T]``; ``beta`` is (beta1, beta2). Under the dual clip the gradient is 0."""
    one = 1 + (log_ratio_BT - log_ratio_BT.detach())  # r / sg r: value 1, gradient 1
    value = torch.where((advantage_BT < 0) & (ratio_BT < low), beta[0] * low * one, ratio_BT)
    value = torch.where((advantage_BT > 0) & (ratio_BT > high), beta[1] * high * one, value)
    loss = -advantage_BT * value
    if dual_clip is not None:
        loss = torch.where(advantage_BT < 0, torch.minimum(loss, -advantage_BT * dual_clip), loss)
    return loss


@dataclass(frozen=True)
class PreservingLoss(PolicyLoss):
    """:func:`preserved_surrogate` with the loss's own bounds."""

    surrogate: str = "gradient preserving"
    beta1: float = 1.0
    beta2: float = 1.0

    def of_advantage(self, advantage_BT: Tensor, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        ratio = self.ratio.ratio(batch, current)
        low, high, beta = prepared["low"], prepared["high"], (self.beta1, self.beta2)
        log_ratio = self.ratio.log_ratio(batch, current)
        return preserved_surrogate(log_ratio, ratio, advantage_BT, low, high, beta, self.dual_clip)


@dataclass(frozen=True)
class PositiveNLL(Regulariser):
    """``+ coef`` times the token mean of -logp over the responses whose reward is ``right``."""

    coef: float
    right: float = 1.0

    current_stats = (LOGP,)

    def coefficient(self) -> float:
        return self.coef

    def tokens(self, batch: Batch) -> Tensor:
        return batch.train_mask_BT.bool() & (batch.rewards() == self.right)[:, None]

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        return -current["logp"]


@register("ce-gppo@paper")
@dataclass(frozen=True)
class CEGPPO(Method):
    """GRPO in which clipped tokens keep a gradient of bounded size."""

    beta1: float = hp(0.75, "share of the gradient kept where A < 0 and r is below the range", ge=0)
    beta2: float = hp(1.0, "share of the gradient kept where A > 0 and r is above the range", ge=0)
    eps_low: float = hp(0.2, "ratio range below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio range above 1", ge=0)
    dual_clip: float | None = hp(None, "cap on -A r for A < 0; null is off", gt=1)
    positive_nll: float = hp(0.0, "weight of the mean -logp of right responses", ge=0)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        refuse_single_update(run, "every ratio at 1, so CE-GPPO is GRPO")

    def stages(self) -> Stages:
        loss = PreservingLoss(
            ratio=TokenRatio(clamp=None), bounds=FixedBounds(self.eps_low, self.eps_high),
            dual_clip=self.dual_clip, aggregation=self.aggregation, beta1=self.beta1, beta2=self.beta2,
        )  # fmt: skip
        positive = (PositiveNLL(self.positive_nll),) if self.positive_nll else ()
        return grpo_stages().with_(loss=loss, regularisers=positive)


@register("ce-gppo@released")
@dataclass(frozen=True)
class CEGPPOReleased(CEGPPO):
    """As the released scripts run it: dual clip, and a likelihood term on right responses."""

    dual_clip: float | None = hp(10.0, "cap on -A r for A < 0; null is off", gt=1)
    positive_nll: float = hp(0.1, "weight of the mean -logp of right responses", ge=0)
