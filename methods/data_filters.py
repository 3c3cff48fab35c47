r"""Data filters around GRPO: which groups and responses train (DAPO, arXiv 2503.14476; EasyR1, SPEAR).

Switches of one trainer, each of which can be off. In the order of a step:

    generate -> verify -> penalty on length -> masks -> groups kept -> advantages -> loss

    overlong   ``penalty``  R += min(0, -(|y| - (L_max - L_cache)) / L_cache * factor)
               ``mask``     a response that meets the token limit has loss mask 0; its reward still counts
                            in the group's mean and std
    quality    responses without an answer, with unreadable bytes, or with an n-gram that comes again and
               again, have loss mask 0, too
    keep       ``varied``   groups whose metric is not constant (population std > 0)
               ``band``     groups with low < mean of the metric < high
               ``top-std``  the share top_share of the groups of largest reward std (ddof 1)
    refill     further prompts are sampled until a step's number of groups is kept; the surplus is dropped

The metric of ``varied`` and ``band`` is the verdict (``acc``) or the shaped reward (``seq_reward``).
Advantage and loss are GRPO's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    Batch,
    ClippedMethod,
    GroupFilter,
    KeepAll,
    Out,
    PlainRollout,
    Reward,
    RunConfig,
    SelectAll,
    Selection,
    Stages,
    StepContext,
    UserError,
    VerdictReward,
    groups_within,
    grpo_stages,
    hp,
    poor_responses,
    refuse_lone_rollouts,
    register,
    share_of,
    varied_groups,
    widest_groups,
)
from methods.dapo import DynamicSampling, SoftOverlong

if TYPE_CHECKING:
    from torch import Tensor

RULES = ("varied", "band", "top-std", "all")
METRICS = ("acc", "seq_reward")
OVERLONG = ("penalty", "mask", "none")


@dataclass(frozen=True)
class GroupRule:
    """Which groups carry a gradient; see the module's docstring."""

    rule: str = "varied"
    metric: str = "acc"
    low: float = 0.01
    high: float = 0.99
    top_share: float = 0.75

    def kept(self, correct_B: Tensor, reward_B: Tensor, group_B: Tensor) -> Tensor:
        """Bool ``[B]``, whole groups."""
        value_B = correct_B if self.metric == "acc" else reward_B
        if self.rule == "varied":
            return varied_groups(value_B, group_B)
        if self.rule == "band":
            return groups_within(value_B, group_B, self.low, self.high)
        if self.rule == "top-std":
            return widest_groups(reward_B, group_B, self.top_share, stable=False)
        return torch.ones(len(group_B), dtype=torch.bool)


def first_groups(keep_B: Tensor, group_B: Tensor, n: int) -> list[int]:
    """The first ``n`` groups that are kept, in the order in which they came; fewer where there are fewer."""
    return list(dict.fromkeys(group_B[keep_B].tolist()))[:n]


def without_overlong(mask_BT: Tensor, truncated_B: Tensor) -> Tensor:
    """The loss mask in which a response that met the token limit has no token, ``[B,T]``."""
    return mask_BT & ~truncated_B.bool()[:, None]


@dataclass(frozen=True)
class RefilledRollout(DynamicSampling):
    """Rounds of prompts until enough groups pass the rule, judged as the group filter will judge them."""

    rule: GroupRule = GroupRule()
    reward: Reward = VerdictReward()

    def kept(self, batch: Batch, ctx: StepContext) -> Tensor:
        return self.rule.kept(batch.correct_B, self.reward(batch, ctx).value, batch.group_B)


@dataclass(frozen=True)
class RuledGroups(GroupFilter):
    """The groups that the rule keeps."""

    rule: GroupRule

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        keep_B = self.rule.kept(batch.correct_B, batch.rewards(), batch.group_B)
        kept = len(torch.unique(batch.group_B[keep_B]))
        refill_B = batch.tag("extra")[keep_B]
        return Out(
            keep_B,
            {
                "data_filters/kept_groups": float(kept),
                "data_filters/missing_groups": float(ctx.prompts_per_step - kept),
                "data_filters/refill_share": float(refill_B.sum()) / max(len(refill_B), 1),
            },
        )


@dataclass(frozen=True)
class MaskResponses(Selection):
    """Takes the loss from responses that are cut off or no answers; they are in the group's statistics."""

    overlong: bool
    quality: bool
    ngram: int
    repeat_limit: int

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        mask_BT = batch.train_mask_BT
        if self.overlong:
            mask_BT = without_overlong(mask_BT, batch.truncated_B)
        if self.quality:
            mask_BT = mask_BT & ~poor_responses(batch, self.ngram, self.repeat_limit)[:, None]
        trains_B = mask_BT.any(1)
        share = 1 - float(trains_B.float().mean()) if len(batch) else 0.0
        return Out(batch.with_(loss_mask_BT=mask_BT).rows(trains_B), {"data_filters/masked": share})


@register("data-filters")
@dataclass(frozen=True)
class DataFilters(ClippedMethod):
    """GRPO with dynamic sampling and soft overlong punishment; other filters in their place or besides."""

    keep: str = hp("varied", "which groups train", choices=RULES)
    metric: str = hp("acc", "what groups are judged by: verdict or shaped reward", choices=METRICS)
    low: float = hp(0.01, "mean of the metric below which a group is dropped (keep=band)")
    high: float = hp(0.99, "mean of the metric above which a group is dropped (keep=band)")
    top_share: float = hp(0.75, "share of the groups that is kept (keep=top-std)", gt=0, le=1)
    refill: bool = hp(True, "sample further prompts in the place of dropped groups")
    gen_factor: float = hp(3.0, "prompts of a generation round, in units of prompts_per_step", gt=0)
    max_gen_batches: int = hp(10, "generation rounds of a step at most", ge=1)
    overlong: str = hp("penalty", "what becomes of responses that are too long", choices=OVERLONG)
    overlong_fraction: float = hp(0.2, "L_cache as a share of max_response_tokens (4096 / 20480)", gt=0, le=1)
    overlong_factor: float = hp(1.0, "size of the overlong penalty", gt=0)
    quality: bool = hp(False, "mask responses without an answer, unreadable or repetitive ones")
    ngram: int = hp(20, "tokens of an n-gram (quality)", ge=1)
    repeat_limit: int = hp(10, "occurrences of an n-gram from which a response is repetitive", ge=2)
    reward_right: float = hp(1.0, "reward of a correct response")
    reward_wrong: float = hp(-1.0, "reward of any other response")
    aggregation: str = hp("seq-mean-token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if self.reward_right <= self.reward_wrong:
            raise UserError("method.reward_right must exceed method.reward_wrong")
        if self.low >= self.high:
            raise UserError("method.low must be below method.high")
        if self.refill and self.keep in ("top-std", "all"):
            raise UserError(
                f"method.refill has nothing to refill with method.keep={self.keep}, which drops no group or "
                "a fixed share; set method.refill=false, or keep varied or band"
            )
        if self.metric == "seq_reward" and self.keep in ("top-std", "all"):
            raise UserError(f"method.metric is not read with method.keep={self.keep}; leave it out")
        if self.keep == "top-std" and run.rollout.prompts_per_step < 2 and self.top_share < 1:
            raise UserError("method.keep=top-std compares groups; use rollout.prompts_per_step >= 2")
        prompts = run.rollout.prompts_per_step
        if self.keep == "top-std" and not share_of(prompts, self.top_share, least=0):
            raise UserError(
                f"method.top_share={self.top_share:g} of {prompts} prompts keeps no group; raise it or "
                "rollout.prompts_per_step"
            )
        if self.keep != "all":
            refuse_lone_rollouts(run, "data-filters judges groups by how their rollouts differ")

    def stages(self) -> Stages:
        reward: Reward = VerdictReward(self.reward_right, self.reward_wrong)
        if self.overlong == "penalty":
            reward = SoftOverlong(
                self.reward_right, self.reward_wrong, self.overlong_fraction, self.overlong_factor
            )
        rule = GroupRule(self.keep, self.metric, self.low, self.high, self.top_share)
        masks = self.overlong == "mask" or self.quality
        return grpo_stages().with_(
            rollout=RefilledRollout(self.gen_factor, self.max_gen_batches, rule, reward)
            if self.refill
            else PlainRollout(),
            reward=reward,
            group_filter=KeepAll() if self.keep == "all" else RuledGroups(rule),
            selection=MaskResponses(self.overlong == "mask", self.quality, self.ngram, self.repeat_limit)
            if masks
            else SelectAll(),
            loss=self.clipped_loss(),
        )
