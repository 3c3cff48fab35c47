r"""Training for pass@k: three rules that pay a rollout for what it adds to the best of several draws.

n rollouts of a prompt, c of them right, C(a, b) the binomial; subsets have k rollouts.

``passk@training`` (arXiv 2508.10751), R in {0, 1}, rho = 1 - C(n-c, k) / C(n, k), s = sqrt(rho (1 - rho)):

    right  A = (1 - rho) / (s + 1e-6)
    wrong  A = (1 - rho - C(n-c-1, k-1) / C(n-1, k-1)) / (s + 1e-6)

``passk@best`` (arXiv 2503.19595): A = best - second best on the best rollout, over std + 1e-6; else 0

``passk@pkpo`` (arXiv 2505.15201), sums over the subsets I that contain i:

    loo-1  A_i = 1 / C(n, k) sum [max R(I) - max R(I without i)]
    loo    A_i = 1 / C(n, k) sum max R(I) - k / (n - 1) (mean of max R over the subsets without i)
    raw    A_i = 1 / C(n, k) sum max R(I)
    binary A_i = n / k times loo-1, less the mean of the group's other rollouts
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING

import torch

from entrobench import (
    Advantage,
    Batch,
    ClippedMethod,
    Out,
    ReferenceKL,
    RunConfig,
    Stages,
    StepContext,
    UserError,
    grpo_stages,
    hp,
    leave_one_out,
    need_verdicts,
    per_group,
    refuse_large_k,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

PKPO = ("loo-1", "loo", "raw", "binary")


def pass_chance(n: int, c: int, k: int) -> float:
    """Chance that one of ``k`` of the ``n`` rollouts is right, of which ``c`` are: the unbiased pass@k."""
    return 1 - comb(n - c, k) / comb(n, k)


def training_advantage(reward_n: Tensor, k: int, eps: float = 1e-6) -> Tensor:
    """What a rollout's subsets have more of pass@k than all subsets, over its spread; rewards 0 and 1."""
    n, c = len(reward_n), int(reward_n.sum())
    rho = pass_chance(n, c, k)
    spread = (rho * (1 - rho)) ** 0.5 + eps
    others_fail = comb(n - c - 1, k - 1) / comb(n - 1, k - 1) if c < n else 0.0
    wrong = (1 - rho - others_fail) / spread
    return wrong + reward_n * ((1 - rho) / spread - wrong)


def best_advantage(reward_n: Tensor, *, norm_by_std: bool = True, eps: float = 1e-6, ddof: int = 1) -> Tensor:
    """The lead of the best rollout over the second best on it, 0 on all others; a tie leads by 0."""
    top = reward_n.topk(2)
    lead = top.values[0] - top.values[1]
    if norm_by_std:
        lead = lead / (reward_n.std(correction=ddof) + eps)
    return torch.zeros_like(reward_n).index_fill(0, top.indices[:1], float(lead))


def max_weights(n: int, k: int) -> Tensor:
    """Share of the k-subsets of n values in which the j-th smallest is the largest, ``[n]``."""
    return torch.tensor([comb(j, k - 1) / comb(n, k) for j in range(n)], dtype=torch.float64)


def max_at_k(reward_n: Tensor, k: int) -> Tensor:
    """Mean over the k-subsets of their largest reward."""
    return (reward_n.sort().values * max_weights(len(reward_n), k)).sum()


def with_each(reward_n: Tensor, k: int) -> Tensor:
    """PKPO without a baseline: the sum of the subsets' largest rewards over those that contain i, ``[n]``."""
    n = len(reward_n)
    g, order = reward_n.sort()
    after = [comb(j - 1, k - 2) / comb(n, k) if j and k > 1 else 0.0 for j in range(n)]
    above = g * torch.tensor(after, dtype=g.dtype)
    own = g * max_weights(n, k) + above.sum() - above.cumsum(0)
    return torch.empty_like(g).scatter(0, order, own)


def added_by_each(reward_n: Tensor, k: int) -> Tensor:
    """PKPO's default: what i adds to the largest reward of its subsets, ``[n]``; never below 0."""
    n = len(reward_n)
    g, order = reward_n.sort()
    chance = torch.tensor([comb(j, k - 2) / comb(n, k) for j in range(n)], dtype=g.dtype)
    lead = (g[:, None] - g[None, :]).clamp(min=0)  # over all smaller ones; those behind it lead by nothing
    return torch.empty_like(g).scatter(0, order, (lead * chance).sum(1))


def pkpo_advantage(reward_n: Tensor, k: int, estimator: str = "loo-1") -> Tensor:
    """One of :data:`PKPO`, ``[n]``; ``loo`` needs k < n."""
    n = len(reward_n)
    if estimator == "loo-1":
        return added_by_each(reward_n, k)
    if estimator == "binary":
        added = added_by_each(reward_n, k) if k > 1 else with_each(reward_n, k)  # to no other: its own reward
        return leave_one_out(added * n / k, torch.zeros(n))
    value = with_each(reward_n, k)
    if estimator == "loo":
        keep = ~torch.eye(n, dtype=torch.bool)
        value = value - torch.stack([max_at_k(reward_n[row], k) for row in keep]) * k / (n - 1)
    return value


@dataclass(frozen=True)
class GroupRule(Advantage):
    """A rule per group; logs the share of groups that it leaves without a gradient."""

    k: int = 1

    def of_group(self, reward_n: Tensor) -> Tensor:
        raise NotImplementedError

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        sizes = torch.unique(batch.group_B, return_counts=True)[1]
        refuse_large_k(self.k, int(sizes.min()))
        advantage = per_group(self.of_group, batch.group_B, batch.rewards())
        trains = torch.unique(batch.group_B[advantage != 0])
        return Out(advantage, {"passk/silent_groups": 1 - len(trains) / len(sizes)})


@dataclass(frozen=True)
class TrainingRule(GroupRule):
    """Pass@k training's, of verdicts."""

    eps: float = 1e-6

    def of_group(self, reward_n: Tensor) -> Tensor:
        return training_advantage(need_verdicts(reward_n, "passk@training"), self.k, self.eps)


@dataclass(frozen=True)
class BestRule(GroupRule):
    """Best less second best."""

    k: int = 2
    norm_by_std: bool = True
    eps: float = 1e-6

    def of_group(self, reward_n: Tensor) -> Tensor:
        return best_advantage(reward_n, norm_by_std=self.norm_by_std, eps=self.eps)


@dataclass(frozen=True)
class PKPORule(GroupRule):
    """PKPO's estimators."""

    estimator: str = "loo-1"

    def of_group(self, reward_n: Tensor) -> Tensor:
        return pkpo_advantage(reward_n, self.k, self.estimator)


@dataclass(frozen=True)
class PassK(ClippedMethod):
    """What the three entries share."""

    kl_coef: float = hp(0.0, "weight of the k3 KL to the frozen reference in the loss", ge=0)

    def rule(self) -> GroupRule:
        raise NotImplementedError

    def stages(self) -> Stages:
        kl = ReferenceKL(self.kl_coef, "k3", self.aggregation)
        return grpo_stages().with_(
            advantage=self.rule(), loss=self.clipped_loss(), regularisers=(kl,) if self.kl_coef else ()
        )


@register("passk@training")
@dataclass(frozen=True)
class PassKTraining(PassK):
    """GRPO whose rewards are the pass@k of the subsets that a rollout is in."""

    k: int = hp(2, "draws of which one has to be right, at most the group", ge=1)
    eps: float = hp(1e-6, "added to the standard deviation", ge=0)

    def validate(self, run: RunConfig) -> None:
        refuse_large_k(self.k, run.rollout.group_size)

    def rule(self) -> TrainingRule:
        return TrainingRule(self.k, self.eps)


@register("passk@best")
@dataclass(frozen=True)
class PassKBest(PassK):
    """Only the best rollout of a group trains, by its lead over the second best."""

    norm_by_std: bool = hp(True, "divide by the group's standard deviation (verl)")
    eps: float = hp(1e-6, "added to the standard deviation", ge=0)

    def rule(self) -> BestRule:
        return BestRule(norm_by_std=self.norm_by_std, eps=self.eps)


@register("passk@pkpo")
@dataclass(frozen=True)
class PKPOMethod(PassK):
    """Pass@k policy optimisation: unbiased estimates of the gradient of max@k."""

    k: int = hp(2, "draws of which the best counts, at most the group", ge=2)
    estimator: str = hp("loo-1", "how the baseline is taken", choices=PKPO)

    def validate(self, run: RunConfig) -> None:
        refuse_large_k(self.k, run.rollout.group_size)
        if self.estimator == "loo" and self.k == run.rollout.group_size:
            raise UserError(
                f"method.estimator=loo needs a group larger than method.k={self.k}; raise "
                "rollout.group_size, lower method.k, or take method.estimator=loo-1"
            )

    def rule(self) -> PKPORule:
        return PKPORule(self.k, self.estimator)
