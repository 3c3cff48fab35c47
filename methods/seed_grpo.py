r"""SEED-GRPO: a prompt's advantages are scaled down where its rollouts disagree (arXiv 2505.12346).

    A_i  = r_i - mean_group                                           Dr. GRPO's, and its loss
    C    clusters of equal answers in the group; a rollout without an answer is a cluster of its own
    l_i  = mean over the response of logp_old                         (the sum: length_normalised=false)
    p(C) = sum_{i in C} exp(l_i) / sum_{i in group} exp(l_i)          estimator=share: |C| / G

    form=code          SE = -sum_C p(C) ln p(C)          A'_i = A_i / (1 + x)
    form=linear        SE = -(1/K) sum_C ln p(C)         A'_i = A_i (1 - x)
    form=exponential   SE = -(1/K) sum_C ln p(C)         A'_i = A_i exp(-x)

with x = alpha SE / ln G, G the rollouts of the prompt and K its clusters. To first order in alpha the factors
are alike; 1 - x is not clamped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    ANSWER_FORMS,
    LOGP,
    Advantage,
    Batch,
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    RunConfig,
    Stages,
    StepContext,
    TokenRatio,
    UserError,
    answers_of,
    clustered,
    group_normalised,
    grpo_stages,
    hp,
    register,
    rows_by_group,
)

if TYPE_CHECKING:
    from torch import Tensor

FORMS = ("code", "linear", "exponential")
ESTIMATORS = ("likelihood", "share")


def log_likelihood(logp_BT: Tensor, mask_BT: Tensor, length_normalised: bool = True) -> Tensor:
    """l, ``[B]`` nats: the response's mean (or summed) token log-prob; 0 without tokens."""
    total_B = torch.where(mask_BT.bool(), logp_BT, 0.0).sum(1)
    return total_B / mask_BT.bool().sum(1).clamp(min=1) if length_normalised else total_B


def semantic_entropy(
    cluster_B: Tensor, group_B: Tensor, log_weight_B: Tensor, form: str = "code"
) -> tuple[Tensor, Tensor]:
    """(SE, ln G) of each row's group, ``[B]`` float64 nats.

    Args:
        log_weight_B: l; 0 everywhere makes p(C) the cluster's share.
    """
    entropy_B = torch.zeros(len(cluster_B), dtype=torch.float64)
    largest_B = torch.zeros_like(entropy_B)
    for rows in rows_by_group(group_B):
        weight = log_weight_B[rows].double().log_softmax(0)
        of_rows = cluster_B[rows]
        logp = torch.stack([weight[of_rows == c].logsumexp(0) for c in of_rows.unique()])
        entropy_B[rows] = -(logp.exp() * logp).sum() if form == "code" else -logp.mean()
        largest_B[rows] = math.log(len(rows))
    return entropy_B, largest_B


def factor(entropy_B: Tensor, largest_B: Tensor, alpha: float, form: str = "code") -> Tensor:
    """What the advantages are multiplied by, ``[B]``; 1 in a group of one."""
    x_B = torch.where(largest_B > 0, alpha * entropy_B / largest_B, 0.0)
    if form == "code":
        return 1 / (1 + x_B)
    return 1 - x_B if form == "linear" else (-x_B).exp()


@dataclass(frozen=True)
class CautiousAdvantage(Advantage):
    """Dr. GRPO's advantage times the factor of its group."""

    alpha: float
    form: str
    estimator: str
    length_normalised: bool
    answers: str

    old_stats = (LOGP,)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        advantage = group_normalised(batch.rewards(), batch.group_B, scale="none")
        cluster = clustered(answers_of(batch, self.answers), batch.group_B)
        weight = log_likelihood(batch.old["logp"], batch.mask_BT, self.length_normalised)
        weight = torch.zeros_like(weight) if self.estimator == "share" else weight
        entropy, largest = semantic_entropy(cluster, batch.group_B, weight, self.form)
        scale = factor(entropy, largest, self.alpha, self.form)
        metrics = {"seed_grpo/entropy": float(entropy.mean()), "seed_grpo/factor": float(scale.mean())}
        return Out(advantage * scale.to(advantage.dtype), metrics)


@register("seed-grpo")
@dataclass(frozen=True)
class SEEDGRPO(Method):
    """Dr. GRPO with smaller steps on prompts whose answers differ."""

    alpha: float = hp(0.0417, "size of the damping; at most alpha / (1 + alpha) of the advantage", ge=0)
    form: str = hp("code", "semantic entropy and factor: the code's, or the paper's two", choices=FORMS)
    estimator: str = hp("likelihood", "probability of a cluster: likelihood or share", choices=ESTIMATORS)
    length_normalised: bool = hp(True, "a response's likelihood from its mean log-prob, not from the sum")
    answers: str = hp("canonical", "what is compared: the grader's form or the writing", choices=ANSWER_FORMS)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)

    def validate(self, run: RunConfig) -> None:
        if run.rollout.group_size < 2:
            raise UserError("seed-grpo compares a prompt's answers; use rollout.group_size >= 2")

    def stages(self) -> Stages:
        return grpo_stages().with_(
            advantage=CautiousAdvantage(
                self.alpha, self.form, self.estimator, self.length_normalised, self.answers
            ),
            loss=PolicyLoss(
                ratio=TokenRatio(clamp=None),
                bounds=FixedBounds(self.eps_low, self.eps_high),
                aggregation="all-seq-mean-token-sum-norm",
            ),
        )
