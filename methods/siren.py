r"""SIREN: the entropy of uncertain tokens' nuclei is held where it was at the start (arXiv 2509.25133).

    H_t = entropy of the renormalised nucleus: the likeliest tokens whose cumulative probability is below P
    b_i = the tau-quantile of H over response i, between its order statistics;  M_it = 1[H_it > b_i]
    Hbar = mean over responses of (sum_t M H / sum_t M), 0 where M is empty
    loss = pg_loss + c (Hbar - Hbar_0)^2

Hbar_0 is Hbar of the first rollout batch under the policy at the start. The policy loss has Dr. GRPO's
advantage (no division by the std) and reduction, and a dual clip. M and b are constants of the update.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from entrobench import (
    Batch,
    Component,
    FixedBounds,
    GroupAdvantage,
    Method,
    NucleusEntropy,
    Out,
    PolicyLoss,
    Regulariser,
    Stages,
    Stats,
    StepContext,
    TokenStat,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

#: Mean over all responses of token sum / generation budget.
AGGREGATION = "all-seq-mean-token-sum-norm"
NUCLEI = ("exclusive", "inclusive")


def peaks(entropy_BT: Tensor, mask_BT: Tensor, quantile: float) -> Tensor:
    """M, bool ``[B,T]``: tokens strictly above their response's interpolated quantile."""
    mask = mask_BT.bool()
    bound_B1 = torch.where(mask, entropy_BT, torch.nan).nanquantile(quantile, dim=1, keepdim=True)
    return mask & (entropy_BT > bound_B1)


def peak_weights(peak_BT: Tensor, mask_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """``[B,T]``: what H is multiplied with and summed to give Hbar; rows without a token do not count."""
    rows = mask_BT.bool().any(1).sum().clamp(min=1)
    return peak_BT.to(dtype) / peak_BT.sum(1, keepdim=True).clamp(min=1) / rows


def peak_entropy(entropy_BT: Tensor, mask_BT: Tensor, quantile: float) -> Tensor:
    """Hbar, nats; its gradient leaves out that of M."""
    weight = peak_weights(peaks(entropy_BT.detach(), mask_BT, quantile), mask_BT, entropy_BT.dtype)
    return (torch.where(weight > 0, entropy_BT, 0.0) * weight).sum()


class Anchor(Component):
    """Hbar_0, once it is known; measured in the first step."""

    def __init__(self, value: float | None, stat: NucleusEntropy, quantile: float) -> None:
        self.value, self.stat, self.quantile = value, stat, quantile

    def before_update(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        if self.value is None:
            self.observe(float(peak_entropy(batch.old[self.stat.name], batch.mask_BT, self.quantile)))
        assert self.value is not None
        return {"siren/anchor": self.value}

    def observe(self, entropy: float) -> None:
        """Take the anchor from a first batch's Hbar; later ones change nothing."""
        self.value = entropy if self.value is None else self.value

    def state_dict(self) -> dict[str, Any]:
        return {"anchor": self.value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.value = state["anchor"]


@dataclass(frozen=True)
class PeakEntropy(Regulariser):
    """c (Hbar - anchor)^2 as a loss per token, whose mean over rows is that square and has its gradient."""

    anchor: Anchor
    coef: float = 0.005
    aggregation: str = "seq-mean-token-mean"

    minibatch_scope = True

    @property
    def old_stats(self) -> tuple[TokenStat, ...]:  # type: ignore[override]
        """Read only until the anchor is known."""
        return (self.anchor.stat,) if self.anchor.value is None else ()

    @property
    def current_stats(self) -> tuple[TokenStat, ...]:  # type: ignore[override]
        return (self.anchor.stat,)

    def coefficient(self) -> float:
        return 0.0 if self.anchor.value is None else self.coef

    def prepare(self, batch: Batch, current: Stats) -> Out[dict[str, Tensor]]:
        entropy, mask, quantile = current[self.anchor.stat.name], batch.train_mask_BT, self.anchor.quantile
        peak = peaks(entropy, mask, quantile)
        length_B1 = mask.sum(1, keepdim=True).to(entropy.dtype)
        measured = peak_entropy(entropy, mask, quantile)
        anchor = measured if self.anchor.value is None else entropy.new_tensor(self.anchor.value)
        error = measured - anchor
        prepared = {
            # a row mean over all tokens is made one over the peaks
            "weight": 2 * error * peak * (length_B1 / peak.sum(1, keepdim=True).clamp(min=1)),
            "rest": error * (error - 2 * measured),
        }
        share = float(peak.sum()) / max(int(mask.sum()), 1)
        metrics = {
            "siren/entropy": float(measured),
            "siren/peaks": share,
            "target_error": abs(float(error)),
            "target_above": float(error > 0),
        }
        return Out(prepared, metrics)

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        return prepared["weight"] * current[self.anchor.stat.name] + prepared["rest"]


@register("siren")
@dataclass(frozen=True)
class SIREN(Method):
    """Dr. GRPO with the squared distance of peak nucleus entropy to its start."""

    coef: float = hp(0.005, "c, weight of the squared distance, 1/nat^2", ge=0)
    top_p: float = hp(0.8, "P, mass of the nucleus", gt=0, le=1)
    top_k: int = hp(10000, "tokens that a nucleus may have", ge=1)
    nucleus: str = hp("exclusive", "whether the token that reaches P is out or (paper) in", choices=NUCLEI)
    quantile: float = hp(0.8, "tau: tokens above this quantile of their response count", ge=0, lt=1)
    anchor: float | None = hp(None, "Hbar_0, nats; null is that of the first step", ge=0)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)

    def stages(self) -> Stages:
        stat = NucleusEntropy(top_p=self.top_p, top_k=self.top_k, inclusive=self.nucleus == "inclusive")
        anchor = Anchor(self.anchor, stat, self.quantile)
        loss = PolicyLoss(
            bounds=FixedBounds(self.eps_low, self.eps_high), dual_clip=self.dual_clip, aggregation=AGGREGATION
        )
        return grpo_stages().with_(
            advantage=GroupAdvantage(scale="none"),
            loss=loss,
            regularisers=(PeakEntropy(anchor, self.coef),) if self.coef else (),
            components={"siren": anchor} if self.coef and self.anchor is None else {},
        )
