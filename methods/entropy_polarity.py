r"""Entropy polarity: does a token's update widen or narrow its distribution? (arXiv 2605.11775)

    P_t = A_t T_t,      T = -p_a (ln p_a + H)  +  sum_v p_v^2 (ln p_v + H)
                            sampled token         correction over the vocabulary

T is the first-order change of the entropy H of a softmax whose logits move by e_a - p, the gradient of the
log-prob of the sampled token a: a step of size eta on A ln p_a changes the entropy by eta A T + O(eta^2).
P > 0 expands, P < 0 contracts. That P is this product could be read in summaries of the paper only; T is
derived, and checked by finite differences. It holds for one softmax on its own: in a network positions share
weights.

The paper's update rule was not found. ``entropy-polarity@inferred`` is UNVERIFIED, and all of it is ours:

    A'_t = A_t (1 + lambda) where P_t > 0,  A_t (1 - lambda) where P_t < 0
    lambda = clip(kappa (H_ref - H_s) / H_ref, -limit, limit)

with H_s a moving average of the batch entropy up to the step before, and H_ref the first batch's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from entrobench import (
    AGGREGATIONS,
    LOGP,
    Advantage,
    Batch,
    Component,
    Diagnostic,
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    Signals,
    Stages,
    StepContext,
    TokenStat,
    diagnostic,
    group_normalised,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


def polarity_terms(logits_NV: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms of T, ``[N]`` each: of the sampled token, and the correction over the vocabulary."""
    logp_NV = logits_NV.log_softmax(1)
    p_NV = logp_NV.exp()
    surprise_NV = logp_NV - (p_NV * logp_NV).sum(1, keepdim=True)  # ln p + H
    sampled = (p_NV * surprise_NV).gather(1, target_N[:, None]).squeeze(1)
    return -sampled, (p_NV**2 * surprise_NV).sum(1)


@dataclass(frozen=True)
class PolarityFactor(TokenStat):
    """T, in nats per unit of advantage and step size."""

    name: str = "polarity_factor"

    def compute(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        sampled, correction = polarity_terms(logits_NV, target_N)
        return sampled + correction


FACTOR = PolarityFactor()


def polarity(factor_BT: Tensor, advantage_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """P = A T, ``[B,T]``; 0 outside the mask."""
    return torch.where(mask_BT.bool(), advantage_BT * factor_BT, 0.0)


@diagnostic("entropy-polarity")
@dataclass(frozen=True)
class EntropyPolarity(Diagnostic):
    """How many trained tokens expand entropy and how many contract it, under the policy before the update.

    Logs ``polarity/mean`` (P over all trained tokens), ``polarity/factor_mean`` (T), ``polarity/expanding``
    (share of tokens with P > 0 among those with P != 0; ``_good`` and ``_bad`` for A > 0 and A < 0) and
    ``polarity/expanding_mass`` (their share of the sum of abs(P): counts and sizes differ).
    """

    old_stats = (LOGP, FACTOR)

    def __call__(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        mask = batch.train_mask_BT
        factor, advantage = batch.old[FACTOR.name].double(), batch.advantages().double()
        value = polarity(factor, advantage, mask)
        tokens, size = max(int(mask.sum()), 1), value.abs().sum()
        metrics = {
            "polarity/mean": float(value.sum()) / tokens,
            "polarity/factor_mean": float((factor * mask).sum()) / tokens,
        }
        for name, of in (("", value != 0), ("_good", advantage > 0), ("_bad", advantage < 0)):
            chosen = value[of & mask]
            if len(chosen):
                metrics[f"polarity/expanding{name}"] = float((chosen > 0).double().mean())
        if size > 0:
            metrics["polarity/expanding_mass"] = float(value.clamp(min=0).sum() / size)
        return metrics


def phase_shift(entropy: float, reference: float, kappa: float, limit: float) -> float:
    """lambda, in [-limit, limit]: positive where the entropy has fallen below the reference."""
    return max(-limit, min(limit, kappa * (reference - entropy) / max(reference, 1e-8)))


def polarity_weights(polarity_BT: Tensor, shift: float) -> Tensor:
    """1 + lambda where P > 0, 1 - lambda where P < 0, 1 where P = 0, ``[B,T]``."""
    return 1 + shift * polarity_BT.sign()


class EntropyAverage(Component):
    """The first batch's entropy and the moving average since, nats."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.reference: float | None = None
        self.average = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"reference": self.reference, "average": self.average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.reference, self.average = state["reference"], float(state["average"])

    def observe(self, entropy: float) -> None:
        if self.reference is None:
            self.reference = self.average = entropy
        self.average = self.decay * self.average + (1 - self.decay) * entropy

    def after_update(self, signals: Signals, ctx: StepContext) -> Mapping[str, float]:
        self.observe(signals.entropy)
        return {"polarity/entropy_average": self.average}


@dataclass(frozen=True)
class PolarityAdvantage(Advantage):
    """GRPO's advantage times the weights above, under the policy before the update."""

    state: EntropyAverage
    kappa: float
    limit: float

    old_stats = (LOGP, FACTOR)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        advantage_B = group_normalised(batch.rewards(), batch.group_B)
        reference = self.state.reference
        shift = 0.0 if reference is None else phase_shift(
            self.state.average, reference, self.kappa, self.limit
        )  # fmt: skip
        factor_BT = batch.old[FACTOR.name].to(advantage_B.dtype)
        weight_BT = polarity_weights(polarity(factor_BT, advantage_B[:, None], batch.mask_BT), shift)
        return Out(weight_BT * advantage_B[:, None], {"polarity/shift": shift})


@register("entropy-polarity@inferred")
@dataclass(frozen=True)
class PolarityReweighting(Method):
    """UNVERIFIED: GRPO with advantage moved between expanding and contracting tokens."""

    kappa: float = hp(1.0, "shift per relative fall of the entropy (ours)", gt=0)
    limit: float = hp(0.5, "largest shift (ours)", gt=0, lt=1)
    decay: float = hp(0.9, "weight of the past in the moving average (ours)", ge=0, lt=1)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    aggregation: str = hp("seq-mean-token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def stages(self) -> Stages:
        state = EntropyAverage(self.decay)
        return grpo_stages().with_(
            advantage=PolarityAdvantage(state, self.kappa, self.limit),
            loss=PolicyLoss(bounds=FixedBounds(self.eps_low, self.eps_high), aggregation=self.aggregation),
            components={"polarity": state},
        )
