r"""COPO: consistency-aware policy optimisation (arXiv 2508.04138): a second loss that compares prompts.

Group g of n rollouts with rewards r_i and answers a_i:

    A_i  = (r_i - mean) / (std + 1e-6)                           local: inside the group
    H_g  = -sum_k p_k log2(p_k + 1e-8)                           over its distinct answers, BITS
    R_g  = mean_g r, times 1 - lambda H_g with reward_coef;      lambda = (1 - 1/n) / log2 n
    GA_g = (R_g - mean R) / (std R + 1e-6)                       global: over the prompts of the step
    w_i  = sigmoid(k (H_g - b))                                  weight of the local loss
    loss_i = w_i l(A_i) + (1 - w_i) l(GA_g)                      l: clipped, dual clip 3, the same ratio

``mode`` changes w: ``soft-with-zero`` has w = 0 where r_i = 0, ``soft-with-forced`` where A_i = 0;
``only-zero`` and ``only-forced`` have 1 elsewhere instead of the sigmoid; ``only-soft`` is the sigmoid
everywhere, ``only-global`` is 0, ``no-global`` is 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    ANSWER_FORMS,
    Batch,
    BlendedLoss,
    FixedBounds,
    Method,
    Out,
    RunConfig,
    Selection,
    Stages,
    StepContext,
    UserError,
    answer_entropy,
    answers_of,
    clustered,
    group_mean_std,
    grpo_stages,
    hp,
    register,
    rows_by_group,
)

if TYPE_CHECKING:
    from torch import Tensor

MODES = (
    "soft-with-zero", "soft-with-forced", "only-soft", "only-zero", "only-forced", "only-global", "no-global",
)  # fmt: skip


def entropy_bits(cluster_B: Tensor, group_B: Tensor) -> Tensor:
    """H_g of each row's group, ``[B]``."""
    return answer_entropy(cluster_B, group_B, eps=1e-8) / math.log(2)


def group_rewards(reward_B: Tensor, group_B: Tensor, entropy_B: Tensor, reward_coef: bool) -> Tensor:
    """R_g of each row's group, ``[B]``; a group of one is not damped."""
    out = torch.zeros_like(reward_B)
    for rows in rows_by_group(group_B):
        n = len(rows)
        lam = (1 - 1 / n) / math.log2(n) if n > 1 and reward_coef else 0.0
        out[rows] = reward_B[rows].mean() * (1 - lam * entropy_B[rows]).to(out.dtype)
    return out


def between_groups(value_B: Tensor, group_B: Tensor, eps: float = 1e-6) -> Tensor:
    """GA_g, ``[B]``: the groups' values normalised over the groups, however many rows each has."""
    groups = list(rows_by_group(group_B))
    value_G = torch.stack([value_B[rows[0]] for rows in groups])
    mean, std = group_mean_std(value_G, torch.zeros(len(groups), dtype=torch.int64))
    out = torch.empty_like(value_B)
    for rows, credit in zip(groups, (value_G - mean) / (std + eps), strict=True):
        out[rows] = credit
    return out


def local_weight(
    mode: str, entropy_B: Tensor, reward_B: Tensor, advantage_B: Tensor, k: float, b: float
) -> Tensor:
    """w, ``[B]``."""
    kind, _, switch = mode.rpartition("-")
    if kind == "only" and switch == "global":
        return torch.zeros_like(entropy_B)
    if kind == "no":
        return torch.ones_like(entropy_B)
    soft = (
        torch.ones_like(entropy_B)
        if kind == "only" and switch != "soft"
        else torch.sigmoid(k * (entropy_B - b))
    )
    on = {"zero": reward_B != 0, "forced": advantage_B != 0}.get(switch)
    return soft if on is None else soft * on


@dataclass(frozen=True)
class GlobalCredit(Selection):
    """Keeps every row; notes GA and w while all prompts of the step are at hand."""

    mode: str
    k: float
    b: float
    reward_coef: bool
    answers: str

    writes_tags = frozenset({"second_advantage", "first_weight"})

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        group, reward = batch.group_B, batch.rewards()
        cluster = clustered(answers_of(batch, self.answers), group, missing="together")
        entropy = entropy_bits(cluster, group)
        credit = between_groups(group_rewards(reward, group, entropy, self.reward_coef), group)
        # a rollout has one advantage on all its tokens, and every response has a first token
        weight = local_weight(self.mode, entropy, reward, batch.advantages()[:, 0], self.k, self.b)
        metrics = {"copo/entropy_bits": float(entropy.mean()), "copo/local_weight": float(weight.mean())}
        return Out(batch.with_tags(second_advantage=credit, first_weight=weight), metrics)


@register("copo")
@dataclass(frozen=True)
class COPO(Method):
    """GRPO for prompts whose answers differ, a comparison between prompts for those whose answers agree."""

    mode: str = hp("soft-with-zero", "what the weight of the local loss follows", choices=MODES)
    k: float = hp(5.0, "steepness of the weight, per bit", gt=0)
    b: float = hp(1.0, "answer entropy at which both losses weigh the same, bits")
    reward_coef: bool = hp(False, "damp a prompt's reward by its answer entropy")
    answers: str = hp("canonical", "what is compared: the grader's form or the writing", choices=ANSWER_FORMS)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("seq-mean-token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if run.rollout.group_size < 2:
            raise UserError("copo compares a prompt's answers; use rollout.group_size >= 2")
        if run.rollout.prompts_per_step < 2:
            raise UserError("copo compares prompts with each other; use rollout.prompts_per_step >= 2")

    def stages(self) -> Stages:
        return grpo_stages().with_(
            selection=GlobalCredit(self.mode, self.k, self.b, self.reward_coef, self.answers),
            loss=BlendedLoss(
                bounds=FixedBounds(self.eps_low, self.eps_high),
                dual_clip=self.dual_clip,
                aggregation=self.aggregation,
            ),
        )
