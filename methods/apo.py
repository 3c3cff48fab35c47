r"""APO: asymmetric policy optimisation (View-R1, arXiv 2506.21655).

Wrong answers that are longer than their group's right ones are punished a little more (STCR), and the KL to
the reference weighs less on right answers of hard prompts (DADS):

    c_i = 1 where trunc(R_i) >= 1;   d = 1 - mean c;   lbar = mean length of the group's right responses
    w_i = 2 - base^(lbar - len_i) where c_i = 0 and len_i > lbar, else 1
    A_i = w_i clip((R_i - mean) / (std + 1e-9), -10, 10)
    u_i = 1 - exp(-e (1 - d)) where A_i > 0 and 0 < d < 1, else 1,    e = 2.718...
    loss = token mean of the clipped surrogate + coef * mean over responses of u_i (token mean of k3)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    Advantage,
    Batch,
    ClippedMethod,
    Out,
    ReferenceKL,
    Selection,
    Stages,
    Stats,
    StepContext,
    group_normalised,
    grpo_stages,
    hp,
    per_group,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

#: Bound on the advantage before the length weight.
CLIP = 10.0


def right(reward_B: Tensor) -> Tensor:
    """c, ``[B]`` 0 or 1: a reward of at least 1, format credit left out."""
    return (reward_B.trunc() >= 1).to(reward_B.dtype)


def length_weight(reward_B: Tensor, length_B: Tensor, group_B: Tensor, base: float = 1.00001) -> Tensor:
    """w (STCR), ``[B]``, at least 1 and below 2; 1 in groups without a right response."""

    def formula(right_n: Tensor, length_n: Tensor) -> Tensor:
        mean = (right_n * length_n).sum() / (right_n.sum() + 1e-9)
        over = (length_n - mean) * (1 - right_n)
        punished = (over > 0) & bool(right_n.any())
        return torch.where(punished, 2 - torch.exp(-over * math.log(base)), 1.0)

    return per_group(formula, group_B, right(reward_B), length_B)


def difficulty(reward_B: Tensor, group_B: Tensor) -> Tensor:
    """d, the share of the group's responses that are not right, ``[B]``."""
    return per_group(lambda right_n: 1 - right_n.mean().expand(len(right_n)), group_B, right(reward_B))


def kl_weight(difficulty_B: Tensor, advantage_B: Tensor) -> Tensor:
    """u (DADS), ``[B]``."""
    eased = (advantage_B > 0) & (difficulty_B > 0) & (difficulty_B < 1)
    return torch.where(eased, 1 - torch.exp(-math.e * (1 - difficulty_B)), 1.0)


def clipped_advantage(reward_B: Tensor, group_B: Tensor, eps: float = 1e-9, ddof: int = 1) -> Tensor:
    """GRPO's advantage within +-10, ``[B]``."""
    return group_normalised(reward_B, group_B, eps=eps, ddof=ddof).clamp(-CLIP, CLIP)


@dataclass(frozen=True)
class LengthPunished(Advantage):
    """GRPO's advantage, a little larger on overlong wrong responses."""

    base: float

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        reward, group = batch.rewards(), batch.group_B
        weight = length_weight(reward, batch.length_B, group, self.base)
        metrics = {"apo/punished": float((weight > 1).float().mean()), "apo/max_weight": float(weight.max())}
        return Out(clipped_advantage(reward, group) * weight, metrics)


@dataclass(frozen=True)
class NoteKLWeights(Selection):
    """Keeps every row; notes the weight of its KL while whole groups are at hand."""

    writes_tags = frozenset({"apo_kl_weight"})

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        # a rollout has one advantage on all its tokens; every response has a first token
        weight = kl_weight(difficulty(batch.rewards(), batch.group_B), batch.advantages()[:, 0])
        return Out(batch.with_tags(apo_kl_weight=weight), {"apo/kl_weight": float(weight.mean())})


@dataclass(frozen=True)
class WeightedKL(ReferenceKL):
    """The KL to the reference with a weight per row."""

    reads_tags = frozenset({"apo_kl_weight"})

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        weight = batch.tags["apo_kl_weight"].to(current["logp"].dtype)
        return weight[:, None] * super().__call__(batch, current, prepared)


@register("apo")
@dataclass(frozen=True)
class APO(ClippedMethod):
    """GRPO with a KL that depends on difficulty and a price on overlong wrong answers."""

    kl_coef: float = hp(1e-3, "weight of the k3 KL to the frozen reference", gt=0)
    stcr_base: float = hp(1.00001, "base of the length weight, per token over the right ones' mean", ge=1)

    def stages(self) -> Stages:
        kl = WeightedKL(self.kl_coef, "k3", "seq-mean-token-mean", exponent_clamp=None, value_clamp=None)
        return grpo_stages().with_(
            advantage=LengthPunished(self.stcr_base),
            selection=NoteKLWeights(),
            loss=self.clipped_loss(),
            regularisers=(kl,),
        )
