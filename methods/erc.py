r"""ERC: entropy ratio clipping, a trust region for the whole next-token distribution (arXiv 2512.05591).

    q_t = (H_t + 1e-8) / (H_t,old + 1e-8)         H the current policy's entropy, H_old that before the update
    kept_t = q_low < q_t < q_high
    loss = token mean over all tokens of kept_t l_t + (1 - kept_t) sg l_t

with l the clipped loss of ``base``: ``dapo`` is PPO-clip, ``gppo`` has its values but keeps the gradient of
clipped tokens (CE-GPPO with beta1 = beta2 = 1); both under a dual clip. A token whose entropy moved by more
than a few percent has no gradient, but stays in the mean. To that comes, of every token,

    + positive_nll * token mean of -logp over the responses of reward 1
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
    RunConfig,
    Stages,
    Stats,
    aggregate,
    grpo_stages,
    hp,
    refuse_single_update,
    register,
)
from methods.ce_gppo import PositiveNLL, PreservingLoss

if TYPE_CHECKING:
    from torch import Tensor


def entropy_ratio(entropy_BT: Tensor, old_entropy_BT: Tensor, eps: float = 1e-8) -> Tensor:
    """q, ``[B,T]`` float64; an entropy that rounding made negative is 0."""
    return (entropy_BT.double().clamp(min=0) + eps) / (old_entropy_BT.double().clamp(min=0) + eps)


def in_band(ratio_BT: Tensor, low: float, high: float) -> Tensor:
    """Bool ``[B,T]``: strictly inside."""
    return (ratio_BT > low) & (ratio_BT < high)


@dataclass(frozen=True)
class EntropyBandLoss(PreservingLoss):
    """The clipped loss, with the gradient of tokens inside the entropy band alone."""

    q_low: float = 0.95
    q_high: float = 1.05
    preserving: bool = False
    eps: float = 1e-8

    old_stats = (LOGP, ENTROPY)  # type: ignore[assignment]
    current_stats = (LOGP, ENTROPY)  # type: ignore[assignment]

    def prepare(self, batch: Batch, current: Stats) -> Out[dict[str, Tensor]]:
        base = super().prepare(batch, current)
        kept = in_band(
            entropy_ratio(current["entropy"], batch.old["entropy"], self.eps), self.q_low, self.q_high
        )
        share = float(aggregate("token-mean", kept.float(), batch.mask_BT))
        return Out({**base.value, "kept": kept}, {**base.metrics, "erc/kept": share})

    def of_advantage(self, advantage_BT: Tensor, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        form = super().of_advantage if self.preserving else super(PreservingLoss, self).of_advantage
        loss = form(advantage_BT, batch, current, prepared)
        return torch.where(prepared["kept"], loss, loss.detach())


@register("erc")
@dataclass(frozen=True)
class ERC(Method):
    """GRPO that trains only on tokens whose entropy has hardly moved since the rollout."""

    base: str = hp("dapo", "form of the clipped loss", choices=("dapo", "gppo"))
    q_low: float = hp(0.95, "lower end of the band of new over old entropy", ge=0, lt=1)
    q_high: float = hp(1.05, "upper end of that band", gt=1)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.28, "ratio clip above 1 (the gppo scripts 0.2)", ge=0)
    dual_clip: float | None = hp(10.0, "cap on -A r for A < 0; null is off", gt=1)
    positive_nll: float = hp(0.1, "weight of the mean -logp of right responses", ge=0)
    aggregation: str = hp("token-mean", "reduction; dropped tokens are counted", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        refuse_single_update(run, "every entropy where it was, so ERC does nothing")

    def stages(self) -> Stages:
        loss = EntropyBandLoss(
            bounds=FixedBounds(self.eps_low, self.eps_high), dual_clip=self.dual_clip,
            aggregation=self.aggregation, q_low=self.q_low, q_high=self.q_high,
            preserving=self.base == "gppo",
        )  # fmt: skip
        positive = (PositiveNLL(self.positive_nll),) if self.positive_nll else ()
        return grpo_stages().with_(loss=loss, regularisers=positive)
