r"""PEAR: phase entropy aware reward (arXiv 2510.08026).

Right answers pay for thinking with more entropy than answering: with k the </think> of a response and H_t the
entropy of the policy that drew it,

    H_think  = mean of H_t before k,       H_answer = mean of H_t after k
    P        = max(0, H_think - alpha H_answer)
    R        = min(1, s - P) if the answer is right, else r_wrong

then GRPO. A phase without a token has entropy 0; a response without </think> is all thinking. Rewards are
taken after the old pass, since they read its entropies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    ENTROPY,
    THINK_END,
    Batch,
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    ReferenceKL,
    Regulariser,
    Reward,
    RunConfig,
    Stages,
    StepContext,
    UserError,
    find_mark,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


def phase_means(
    entropy_BT: Tensor, mask_BT: Tensor, first_B: Tensor, last_B: Tensor
) -> tuple[Tensor, Tensor]:
    """(H_think, H_answer), ``[B]`` each, nats; 0 where a phase has no token.

    Args:
        first_B, last_B: first and last token of the mark, which is in neither phase.
    """
    mask, at_T = mask_BT.bool(), torch.arange(mask_BT.shape[1])

    def mean(where_BT: Tensor) -> Tensor:
        return torch.where(where_BT, entropy_BT, 0.0).sum(1) / where_BT.sum(1).clamp(min=1)

    return mean(mask & (at_T < first_B[:, None])), mean(mask & (at_T > last_B[:, None]))


def penalty(think_B: Tensor, answer_B: Tensor, alpha: float) -> Tensor:
    """P, ``[B]``, nats."""
    return (think_B - alpha * answer_B).clamp(min=0)


def phase_reward(correct_B: Tensor, penalty_B: Tensor, score: float, wrong: float) -> Tensor:
    """R, ``[B]``."""
    return torch.where(correct_B > 0, (score - penalty_B).clamp(max=1), wrong)


@dataclass(frozen=True)
class PhaseEntropyReward(Reward):
    """R from the entropies of the old pass."""

    alpha: float
    score: float
    wrong: float
    mark: str = THINK_END

    old_stats = (ENTROPY,)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        found = find_mark(batch, ctx, self.mark)
        think, answer = phase_means(batch.old["entropy"], batch.mask_BT, *found)
        paid, right = penalty(think, answer, self.alpha), batch.correct_B > 0
        metrics = {
            "pear/think_entropy": float(think.mean()),
            "pear/answer_entropy": float(answer.mean()),
            "pear/penalty": float(paid[right].mean()) if bool(right.any()) else 0.0,
            "pear/without_mark": float((found.first_B == batch.length_B).double().mean()),
        }
        return Out(phase_reward(batch.correct_B, paid, self.score, self.wrong), metrics)


@register("pear")
@dataclass(frozen=True)
class PEAR(Method):
    """GRPO with a reward that is lower where thinking has more entropy than the answer."""

    alpha: float = hp(1.0, "weight of the answer's entropy; larger shortens less (studied from -1 up)")
    score: float = hp(1.0, "s, reward of a right answer before the penalty; at most 1 is paid")
    wrong: float = hp(0.0, "r_wrong, reward of any other response")
    mark: str = hp(THINK_END, "text or special token that ends the model's thinking")
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    kl_coef: float = hp(0.0, "weight of the k3 KL to the frozen reference in the loss; unverified", ge=0)
    aggregation: str = hp("token-mean", "reduction of the token losses; unverified", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if not self.mark:
            raise UserError("method.mark is empty; name what ends the model's thinking, e.g. </think>")
        if run.rollout.group_size < 2:
            raise UserError("a group of one has its own reward for an advantage; use rollout.group_size >= 2")

    def stages(self) -> Stages:
        kl: tuple[Regulariser, ...] = ()
        if self.kl_coef:
            kl = (ReferenceKL(self.kl_coef, "k3", self.aggregation),)
        return grpo_stages().with_(
            reward=PhaseEntropyReward(self.alpha, self.score, self.wrong, self.mark),
            loss=PolicyLoss(bounds=FixedBounds(self.eps_low, self.eps_high), aggregation=self.aggregation),
            regularisers=kl,
        )
