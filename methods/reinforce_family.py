r"""REINFORCE and its critic-free kin, by the conventions of three frameworks (arXiv 2501.03262, 2402.14740).

s_i is the score of response i, 1 if it is right and 0 if not. The advantage of its token t is:

    plain               G_t, whitened over all tokens of the step (default: only the mean is removed)
    plusplus            G_t, whitened                                              REINFORCE++
    plusplus-baseline   s_i - mean of the group, whitened                          REINFORCE++-baseline
    rloo                s_i - mean of the group's other responses
    rloo-trl            s_i - beta sum_t kl_t, minus that of the group's other responses

    G_t = R_t + gamma G_{t+1},   R_t = s_i at the last token - beta kl_t at every token

Whitening weighs by tokens: A <- (A - mean) / std over all response tokens. kl estimates KL(old || ref).
All but the last take the token ratio and PPO's clip with a dual clip, averaged over tokens. The last takes
the ratio of whole responses, exp(sum_t logp - sum_t old_logp), and averages over responses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    KL_METRIC,
    LOGP,
    REWARD_KL_ESTIMATORS,
    Advantage,
    Batch,
    FixedBounds,
    KLReward,
    Method,
    Out,
    PolicyLoss,
    ResponseRatio,
    Reward,
    Stages,
    StepContext,
    VerdictReward,
    at_last_token,
    group_normalised,
    grpo_stages,
    hp,
    leave_one_out,
    less_kl,
    mean_kl,
    reference_kl,
    register,
    returns_to_go,
    whitened,
)

if TYPE_CHECKING:
    from torch import Tensor

BASELINES = ("none", "group", "leave-one-out", "group-norm")


def less_baseline(score_B: Tensor, group_B: Tensor, baseline: str, eps: float = 1e-9) -> Tensor:
    """The score without its baseline, ``[B]``; ``group-norm`` also divides by the group's std + ``eps``."""
    if baseline == "none":
        return score_B
    if baseline == "leave-one-out":
        return leave_one_out(score_B, group_B)
    return group_normalised(score_B, group_B, eps=eps, scale="none" if baseline == "group" else "group")


def standardised(advantage_B: Tensor, eps: float = 1e-4, ddof: int = 1) -> Tensor:
    """(A - mean) / (std + eps) over the rows (TRL)."""
    return group_normalised(advantage_B, torch.zeros(len(advantage_B)), eps=eps, ddof=ddof)


@dataclass(frozen=True)
class ReturnCredit(Advantage):
    """Whitened returns to go of the token rewards, no baseline."""

    whiten: str
    gamma: float = 1.0

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        reward = batch.reward_BT
        if reward is None:
            reward = at_last_token(batch.rewards(), batch.mask_BT)
        return Out(whitened(returns_to_go(reward, batch.mask_BT, self.gamma), batch.mask_BT, self.whiten))


@dataclass(frozen=True)
class BaselineCredit(Advantage):
    """Summed rewards less a baseline on every token, whitened over tokens or standardised over rows."""

    baseline: str
    whiten: str = "none"
    rows: bool = False

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        credit = less_baseline(batch.rewards(), batch.group_B, self.baseline)
        if self.rows:
            credit = standardised(credit)
        return Out(whitened(credit[:, None].expand(batch.mask_BT.shape), batch.mask_BT, self.whiten))


@dataclass(frozen=True)
class BaselineThenKL(Advantage):
    """OpenRLHF's order: the baseline on the scores alone, then the KL of this and all later tokens."""

    baseline: str
    coef: float
    estimator: str
    whiten: str = "none"

    old_stats = (LOGP,)
    needs_reference = True

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        score = less_baseline(batch.rewards(), batch.group_B, self.baseline)
        kl = reference_kl(batch, self.estimator)
        token_reward = less_kl(score, kl, batch.mask_BT, self.coef)
        credit = whitened(returns_to_go(token_reward, batch.mask_BT), batch.mask_BT, self.whiten)
        return Out(credit, {KL_METRIC: mean_kl(kl, batch.mask_BT)})


@dataclass(frozen=True)
class Family(Method):
    """What all entries share: the KL in the reward and the clipped token loss."""

    kl_coef: float = hp(0.0, "weight of the KL to the frozen reference in the reward", ge=0)
    kl_estimator: str = hp("k1", "estimator of that KL", choices=REWARD_KL_ESTIMATORS)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)

    def reward(self) -> Reward:
        return KLReward(self.kl_coef, self.kl_estimator) if self.kl_coef else VerdictReward()

    def bounds(self) -> FixedBounds:
        return FixedBounds(self.eps_low, self.eps_high)


@dataclass(frozen=True)
class TokenFamily(Family):
    """The entries with a ratio per token."""

    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def credit(self) -> Advantage:
        raise NotImplementedError

    def stages(self) -> Stages:
        loss = PolicyLoss(bounds=self.bounds(), dual_clip=self.dual_clip, aggregation=self.aggregation)
        return grpo_stages().with_(reward=self.reward(), advantage=self.credit(), loss=loss)


@register("reinforce-family@plain")
@dataclass(frozen=True)
class Plain(TokenFamily):
    """REINFORCE with the mean over the step's tokens as its only baseline (OpenRLHF: reinforce)."""

    whiten: str = hp("mean", "what is done to the returns", choices=("none", "mean", "biased"))
    gamma: float = hp(1.0, "discount per token", gt=0, le=1)
    scale = "none"  # no group is needed: rollout.group_size=1 is fine

    def credit(self) -> Advantage:
        return ReturnCredit(self.whiten, self.gamma)


@register("reinforce-family@plusplus")
@dataclass(frozen=True)
class PlusPlus(TokenFamily):
    """REINFORCE++: returns whitened over the step's tokens, no group baseline (verl)."""

    gamma: float = hp(1.0, "discount per token", gt=0, le=1)
    scale = "none"

    def credit(self) -> Advantage:
        return ReturnCredit("unbiased", self.gamma)


@register("reinforce-family@plusplus-baseline")
@dataclass(frozen=True)
class PlusPlusBaseline(TokenFamily):
    """REINFORCE++-baseline: the group's mean removed, then whitened over the step's tokens (verl)."""

    def credit(self) -> Advantage:
        return BaselineCredit("group", "unbiased")


@register("reinforce-family@rloo")
@dataclass(frozen=True)
class RLOO(TokenFamily):
    """Leave-one-out baseline with the token ratio (verl, OpenRLHF)."""

    kl_after: bool = hp(False, "the KL enters after the baseline (OpenRLHF), per token")

    def reward(self) -> Reward:
        return VerdictReward() if self.kl_after else super().reward()

    def credit(self) -> Advantage:
        if self.kl_after and self.kl_coef:
            return BaselineThenKL("leave-one-out", self.kl_coef, self.kl_estimator)
        return BaselineCredit("leave-one-out")


@register("reinforce-family@rloo-trl")
@dataclass(frozen=True)
class RLOOTRL(Family):
    """Leave-one-out baseline with the ratio of whole responses (TRL)."""

    kl_coef: float = hp(0.05, "weight of the KL to the frozen reference in the reward", ge=0)
    normalise: bool = hp(False, "standardise the advantages over the step's responses")

    def stages(self) -> Stages:
        return grpo_stages().with_(
            reward=self.reward(),
            advantage=BaselineCredit("leave-one-out", rows=self.normalise),
            loss=PolicyLoss(ResponseRatio(), self.bounds(), aggregation="seq-mean-token-mean"),
        )
