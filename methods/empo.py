r"""EMPO: entropy-minimised policy optimisation (arXiv 2504.05812): agreement within the group is the reward.

Per prompt with G rollouts, whose answers are clustered greedily in rollout order:

    share    R_i = |C(i)| / G; each response without an answer is a cluster of its own
    voting   R_i = 1 if no cluster is larger than C(i), else 0
    trl      R_i = |C(i)| / G; 0 without an answer, and for the whole group if all its answers differ

then GRPO's advantage and GSPO's response ratio, clipped, averaged over tokens. No verdict is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    ANSWER_FORMS,
    Batch,
    FixedBounds,
    GroupFilter,
    KeepAll,
    Method,
    Out,
    PolicyLoss,
    Reward,
    RunConfig,
    SequenceRatio,
    Stages,
    StepContext,
    UserError,
    answer_entropy,
    answers_of,
    cluster_shares,
    clustered,
    grpo_stages,
    hp,
    register,
    rows_by_group,
)

if TYPE_CHECKING:
    from torch import Tensor

REWARDS = ("share", "voting", "trl")


def largest_of_group(value_B: Tensor, group_B: Tensor) -> Tensor:
    """The largest value in each row's group, ``[B]``."""
    out = torch.empty_like(value_B)
    for rows in rows_by_group(group_B):
        out[rows] = value_B[rows].max()
    return out


def all_differ(cluster_B: Tensor, group_B: Tensor) -> Tensor:
    """Bool ``[B]``: rows of groups in which every row is a cluster of its own, i.e. the entropy is ln G."""
    out = torch.zeros(len(cluster_B), dtype=torch.bool)
    for rows in rows_by_group(group_B):
        out[rows] = len(cluster_B[rows].unique()) == len(rows)
    return out


def consensus(
    cluster_B: Tensor, group_B: Tensor, answered_B: Tensor, kind: str = "share", least_share: float = 0.0
) -> Tensor:
    """R, ``[B]`` float64.

    Args:
        answered_B: bool, rows that have an answer.
        kind: of :data:`REWARDS`.
        least_share: groups whose largest share is below get 0.
    """
    share_B = cluster_shares(cluster_B, group_B)
    largest_B = largest_of_group(share_B, group_B)
    reward_B = (share_B == largest_B).double() if kind == "voting" else share_B
    if kind == "trl":
        reward_B = torch.where(answered_B & ~all_differ(cluster_B, group_B), reward_B, 0.0)
    return torch.where(largest_B >= least_share, reward_B, 0.0)


@dataclass(frozen=True)
class ConsensusReward(Reward):
    """How many of the group give the same answer."""

    kind: str
    least_share: float
    answers: str

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        answers = answers_of(batch, self.answers)
        missing = "together" if self.kind == "trl" else "apart"
        cluster = clustered(answers, batch.group_B, missing=missing)
        answered = torch.tensor([answer is not None for answer in answers])
        reward = consensus(cluster, batch.group_B, answered, self.kind, self.least_share)
        metrics = {
            "empo/semantic_entropy": float(answer_entropy(cluster, batch.group_B).mean()),
            "empo/answered": float(answered.float().mean()),
        }
        return Out(reward.to(torch.get_default_dtype()), metrics)


@dataclass(frozen=True)
class AgreeingPrompts(GroupFilter):
    """Prompts whose largest reward is at least ``least``."""

    least: float

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        return Out(largest_of_group(batch.rewards(), batch.group_B) >= self.least)


@register("empo")
@dataclass(frozen=True)
class EMPO(Method):
    """GSPO whose reward is the share of a response's answer among the group's answers."""

    reward: str = hp("share", "share, voting, or the share with the preprint's exceptions", choices=REWARDS)
    least_share: float = hp(0.0, "groups whose largest cluster is a smaller share get reward 0", ge=0, le=1)
    filter_below: float = hp(
        0.0, "prompts whose largest reward is below are left out (the code's option: 0.3)", ge=0, le=1
    )
    answers: str = hp("canonical", "what is compared: the grader's form or the writing", choices=ANSWER_FORMS)
    eps_low: float = hp(3e-4, "clip of the response's ratio below 1", ge=0, lt=1)
    eps_high: float = hp(4e-4, "clip of the response's ratio above 1", ge=0)
    dual_clip: float | None = hp(10.0, "cap on -A s for A < 0; null is off", gt=1)

    def validate(self, run: RunConfig) -> None:
        if run.rollout.group_size < 2:
            raise UserError("empo compares a prompt's answers; use rollout.group_size >= 2")

    def stages(self) -> Stages:
        return grpo_stages().with_(
            reward=ConsensusReward(self.reward, self.least_share, self.answers),
            group_filter=AgreeingPrompts(self.filter_below) if self.filter_below else KeepAll(),
            loss=PolicyLoss(
                ratio=SequenceRatio(),
                bounds=FixedBounds(self.eps_low, self.eps_high),
                dual_clip=self.dual_clip,
                aggregation="token-mean",
            ),
        )
