r"""Entropy polarity: does a token's update widen or narrow its distribution? (arXiv 2605.11775)

    P_t = A_t T_t,      T = -p_a (ln p_a + H)  +  sum_v p_v^2 (ln p_v + H)
                            sampled token         correction over the vocabulary

T is the first-order change of the entropy H of a softmax whose logits move by e_a - p, the gradient of the
log-prob of the sampled token a: a step of size eta on A ln p_a changes the entropy by eta A T + O(eta^2).
P > 0 expands, P < 0 contracts. That P is this product could be read in summaries of the paper only; T is
derived, and checked by finite differences. It holds for one softmax on its own: in a network positions share
weights. The paper's update rule is not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Batch
from harness.stages import Diagnostic, StepContext
from harness.tokenstats import LOGP, TokenStat
from methods.registry import diagnostic


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
