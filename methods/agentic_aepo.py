r"""AEPO, agentic entropy-balanced policy optimisation (arXiv 2510.14545); not `aepo`, arbitrary entropy PO.

    z_t = (H_t - mean H) / std H,   std 0 -> 1;    A_t <- A (1 + a z_t)             A: GRPO's advantage
    l_t = max(-A r, -A clip(r, 1 - eps_low, (1 + eps_high) r / sg r))               r_t = exp(logp - old)
          at most -c A where A < 0;   mean over tokens

so that a token with A > 0 above the range keeps the gradient (1 + eps_high) A, which PPO drops; the value of
the loss is PPO's. ``agentic-aepo@released`` takes z over all tokens of the optimiser step, from the entropies
of the weights it starts from; ``agentic-aepo@paper`` over the tokens of each prompt's group.

The paper also divides the rollouts of a prompt: m fresh ones, and k - m that branch off behind a tool step
whose entropy rises. Without tools there is no such step, and all k are fresh: :func:`fresh_rollouts`,
:func:`branch_probability` and :func:`branches` are what a rollout program with tools would decide by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    ENTROPY,
    Advantage,
    Batch,
    ClippedMethod,
    FixedBounds,
    Out,
    PolicyLoss,
    Stages,
    Stats,
    StepContext,
    TokenCredit,
    TokenRatio,
    clipped_surrogate,
    group_normalised,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


def standardised(value_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(value - mean) / std (ddof 1) over the tokens of the mask, ``[B,T]``; 0 elsewhere, a std of 0 is 1."""
    mask = mask_BT.bool()
    inside = value_BT[mask].double()
    if not len(inside):
        return torch.zeros_like(value_BT)
    # of equal values mean and std are rounded ones, and z would be noise of size 1
    if bool(inside.min() == inside.max()):
        return torch.zeros_like(value_BT)
    mean, std = inside.mean(), inside.std()
    std = torch.where(std == 0, torch.ones_like(std), std)
    return torch.where(mask, (value_BT - mean) / std, 0.0).to(value_BT.dtype)


def entropy_aware(advantage_BT: Tensor, z_BT: Tensor, weight: float) -> Tensor:
    """A (1 + a z), ``[B,T]``; the sign turns where z < -1 / a."""
    return advantage_BT * (1 + weight * z_BT)


def balanced_surrogate(
    log_ratio_BT: Tensor,
    ratio_BT: Tensor,
    advantage_BT: Tensor,
    low: Tensor | float,
    high: Tensor | float,
    dual_clip: float | None = None,
) -> Tensor:
    """l, ``[B,T]``: the value of PPO's clip, with the gradient of the upper bound where A > 0 and r above."""
    one = 1 + (log_ratio_BT - log_ratio_BT.detach())  # r / sg r: value 1, gradient 1
    return clipped_surrogate(ratio_BT, advantage_BT, low, high * one, dual_clip)


def fresh_rollouts(k: int, root: float, tool: float, beta: float = 0.5) -> int:
    """m of a prompt's ``k`` rollouts: fresh ones, the others are left for branches.

    Args:
        root, tool: entropy at the prompt and mean entropy behind its tool steps, each over ln of the
            vocabulary's size, from a probe.
    """
    share = 1 / (1 + math.exp(-beta * (root - tool)))
    return min(max(int(k * share) + 1, 1), k)


def branch_probability(
    uniform_N: Tensor, rise_N: Tensor, run_N: Tensor, weight: float = 0.2, penalty: float = 0.05
) -> Tensor:
    """Score of a branch behind each tool step, ``[N]`` in [0, 1].

    Args:
        uniform_N: uniform numbers in [0, 1).
        rise_N: normalised entropy now, less that behind the rollout's first step.
        run_N: consecutive branches of the prompt so far.
    """
    return ((uniform_N + weight * rise_N) * (1 - penalty * run_N.to(uniform_N)).clamp(min=0)).clamp(0, 1)


def branches(score_N: Tensor, threshold: float = 0.5) -> Tensor:
    """Bool ``[N]``: where a branch is made: at the threshold or above, so a larger rise branches more."""
    return score_N >= threshold


@dataclass(frozen=True)
class StepEntropyCredit(TokenCredit):
    """The advantage by the entropies of the weights that an optimiser step starts from, over its tokens."""

    weight: float

    current_stats = (ENTROPY,)
    minibatch_scope = True

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        z_BT = standardised(current["entropy"].detach(), batch.mask_BT)
        return Out(entropy_aware(batch.advantages(), z_BT, self.weight), _told(z_BT, batch, self.weight))


@dataclass(frozen=True)
class GroupEntropyAdvantage(Advantage):
    """GRPO's advantage by the entropy of the policy that drew, over the tokens of each group."""

    weight: float

    old_stats = (ENTROPY,)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        advantage_B = group_normalised(batch.rewards(), batch.group_B)
        entropy_BT, z_BT = batch.old["entropy"], torch.zeros_like(batch.old["entropy"])
        for group in torch.unique(batch.group_B):
            rows = batch.group_B == group
            z_BT[rows] = standardised(entropy_BT[rows], batch.mask_BT[rows])
        shaped = entropy_aware(advantage_B[:, None], z_BT.to(advantage_B.dtype), self.weight)
        return Out(shaped, _told(z_BT, batch, self.weight))


def _told(z_BT: Tensor, batch: Batch, weight: float) -> dict[str, float]:
    turned = (1 + weight * z_BT < 0) & batch.mask_BT
    return {"agentic_aepo/turned": float(turned.sum()) / max(int(batch.mask_BT.sum()), 1)}


@dataclass(frozen=True)
class BalancedLoss(PolicyLoss):
    """:func:`balanced_surrogate` with the loss's own bounds."""

    surrogate: str = "clipping balanced"

    def of_advantage(self, advantage_BT: Tensor, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        ratio, log_ratio = self.ratio.ratio(batch, current), self.ratio.log_ratio(batch, current)
        low, high = prepared["low"], prepared["high"]
        return balanced_surrogate(log_ratio, ratio, advantage_BT, low, high, self.dual_clip)


@register("agentic-aepo@released")
@dataclass(frozen=True)
class AgenticAEPO(ClippedMethod):
    """GRPO with entropy-aware advantages, whose clipped good tokens keep a bounded gradient."""

    entropy_weight: float = hp(0.2, "a: how much a token's advantage follows its entropy", ge=0)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)

    def balanced_loss(self, credit: TokenCredit | None = None) -> PolicyLoss:
        """The loss of both entries."""
        return BalancedLoss(
            ratio=TokenRatio(clamp=None), bounds=FixedBounds(self.eps_low, self.eps_high), credit=credit,
            dual_clip=self.dual_clip, aggregation=self.aggregation,
        )  # fmt: skip

    def stages(self) -> Stages:
        credit = StepEntropyCredit(self.entropy_weight) if self.entropy_weight else None
        return grpo_stages().with_(loss=self.balanced_loss(credit))


@register("agentic-aepo@paper")
@dataclass(frozen=True)
class AgenticAEPOPaper(AgenticAEPO):
    """Entropies are standardised within each prompt's group."""

    def stages(self) -> Stages:
        advantage = GroupEntropyAdvantage(self.entropy_weight)
        return grpo_stages().with_(advantage=advantage, loss=self.balanced_loss())
