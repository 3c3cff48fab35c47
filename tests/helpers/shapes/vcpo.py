"""VCPO (arXiv 2602.17616): minimum-variance baseline, step size from the effective sample size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Batch
from harness.stages import (
    Advantage,
    Out,
    PolicyLoss,
    ShuffledMinibatches,
    Stages,
    Stats,
    StepContext,
    StepSize,
    TokenWeight,
    group_mean_std,
    grpo_stages,
)
from harness.tokenstats import LOGP


def sequence_log_weight(batch: Batch, current: Stats) -> Tensor:
    """lr_i, ``[B]``."""
    return ((current["logp"] - batch.rollout_logp_BT) * batch.mask_BT).sum(1)


def group_baseline(weight_B: Tensor, reward_B: Tensor, group_B: Tensor) -> Tensor:
    """b = sum W R / (sum W + 1e-8) of each row's group, ``[B]``."""
    _, index = torch.unique(group_B, return_inverse=True)
    zeros = torch.zeros(int(index.max()) + 1, dtype=weight_B.dtype)
    total = zeros.index_add(0, index, weight_B * reward_B)
    return (total / (zeros.index_add(0, index, weight_B) + 1e-8))[index]


def effective_share(weight_B: Tensor) -> Tensor:
    """ESS / B."""
    return weight_B.sum() ** 2 / (weight_B.pow(2).sum() + 1e-8) / len(weight_B)


@dataclass(frozen=True)
class VarianceControl(TokenWeight):
    """Truncated sequence weight times the advantage under the minimum-variance baseline."""

    threshold: float = 8.0

    needs_row_grad_norms = True
    minibatch_scope = True
    current_stats = (LOGP,)

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        log_weight = sequence_log_weight(batch, current)
        weight = log_weight.exp()
        truncated = log_weight.clamp(-20, 20).exp().clamp(max=self.threshold)
        norm = truncated * batch.tags["grad_norm"]
        reward = batch.rewards().to(weight.dtype)
        baseline = group_baseline(norm**2 * weight**2, reward, batch.group_B)
        _, sigma = group_mean_std(reward, batch.group_B, ddof=0)
        advantage = (reward - baseline) / torch.where(sigma > 1e-8, sigma, 1.0)
        metrics = {"vcpo/grad_norm": float(norm.mean()), "vcpo/baseline": float(baseline.mean())}
        return Out(truncated * advantage, metrics)


class One(Advantage):
    """The weight carries the advantage, which exists only at the update."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        return Out(torch.ones(len(batch)))


class EffectiveSampleStep(StepSize):
    current_stats = (LOGP,)

    def __call__(self, batch: Batch, current: Stats) -> Out[float]:
        share = float(effective_share(sequence_log_weight(batch, current).exp()))
        multiplier = min(1.0, share) ** 0.5
        return Out(multiplier, {"vcpo/multiplier": multiplier})


def vcpo_stages() -> Stages:
    return grpo_stages().with_(
        advantage=One(),
        plan=ShuffledMinibatches(by_group=True),
        loss=PolicyLoss(weight=VarianceControl(), surrogate="score"),
        step_size=EffectiveSampleStep(),
    )
