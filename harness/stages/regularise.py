"""Regularisers: entropy bonus and KL to the reference, the two classical controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from harness.stages.base import Regulariser, Stage, Stats
from harness.stages.batch import Batch
from harness.stages.loss import TokenRatio, finite_exp
from harness.stages.token_stats import ENTROPY, LOGP

if TYPE_CHECKING:
    from torch import Tensor

#: Estimators of the KL divergence from the reference policy at a token.
KL_ESTIMATORS = ("k1", "abs", "k2", "k3", "k1+", "k3+")


def kl_estimate(
    name: str,
    logp_BT: Tensor,
    ref_logp_BT: Tensor,
    *,
    exponent_clamp: float | None = 20.0,
    value_clamp: float | None = 10.0,
    log_ratio_clamp: float | None = None,
) -> Tensor:
    """Estimate of KL(policy || reference) per token (J. Schulman, Approximating KL Divergence, 2020).

    ``k1`` = d, ``abs`` = \\|d\\|, ``k2`` = d^2/2, ``k3`` = exp(-d) + d - 1 with d = logp - ref_logp; ``k3``'s
    d is clamped to +-20 and its value to [-10, 10], as in verl (None: no clamp, as in TRL). A trailing
    ``+`` keeps the value and takes the gradient of ``k2`` (straight through). ``log_ratio_clamp`` clamps d
    itself, in every estimator (oat: 40).
    """
    if name not in KL_ESTIMATORS:
        raise ValueError(f"unknown KL estimator '{name}'; choose one of {', '.join(KL_ESTIMATORS)}")
    d = logp_BT - ref_logp_BT
    if log_ratio_clamp is not None:
        d = d.clamp(-log_ratio_clamp, log_ratio_clamp)
    if name.endswith("+"):
        value = kl_estimate(
            name[:-1], logp_BT, ref_logp_BT, exponent_clamp=exponent_clamp, value_clamp=value_clamp,
            log_ratio_clamp=log_ratio_clamp,
        )  # fmt: skip
        k2 = 0.5 * d**2
        return k2 + (value - k2).detach()
    if name == "k1":
        return d
    if name == "abs":
        return d.abs()
    if name == "k2":
        return 0.5 * d**2
    clamped = log_ratio_clamp is not None or exponent_clamp is not None
    if exponent_clamp is not None:  # in both of its terms
        d = d.clamp(-exponent_clamp, exponent_clamp)
    k3 = (torch.exp(-d) if clamped else finite_exp(-d)) + d - 1
    return k3 if value_clamp is None else k3.clamp(-value_clamp, value_clamp)


def coefficient_now(coef: float | Callable[[], float]) -> float:
    """``coef``, or what it returns where it is a function, read at this moment."""
    return coef() if callable(coef) else coef


@dataclass(frozen=True)
class EntropyBonus(Regulariser):
    """``- coef * agg(entropy)``; ``coef`` is a number or a function read at every update."""

    coef: float | Callable[[], float] = 0.001
    aggregation: str = "token-mean"

    current_stats = (ENTROPY,)

    def coefficient(self) -> float:
        return coefficient_now(self.coef)

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        return -current["entropy"]


@dataclass(frozen=True)
class ReferenceKL(Regulariser):
    """``+ coef * agg(kl_estimate(logp, ref_logp))``; the clamps are those of :func:`kl_estimate`.

    ``ratio`` multiplies each token's estimate by its importance ratio, through which the gradient flows, too:
    an expectation under the current policy from the old one's draws (TRL's use_bias_correction_kl).
    """

    coef: float | Callable[[], float] = 0.001
    estimator: str = "k3"
    aggregation: str = "token-mean"
    exponent_clamp: float | None = 20.0
    value_clamp: float | None = 10.0
    log_ratio_clamp: float | None = None
    ratio: TokenRatio | None = None

    current_stats = (LOGP,)
    needs_reference = True

    def parts(self) -> tuple[Stage, ...]:
        return (self.ratio,) if self.ratio else ()

    def coefficient(self) -> float:
        return coefficient_now(self.coef)

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        kl = kl_estimate(
            self.estimator, current["logp"], batch.reference_logp(), exponent_clamp=self.exponent_clamp,
            value_clamp=self.value_clamp, log_ratio_clamp=self.log_ratio_clamp,
        )  # fmt: skip
        return self.ratio.ratio(batch, current) * kl if self.ratio else kl
