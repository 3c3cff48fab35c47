r"""ADORA: advantage dynamics via online rollout adaptation (Gui and Ren, 2025).

A prompt keeps its advantages where its longest right response is longer than the mean of its wrong ones; all
others have them multiplied by lambda.

    A_i = (R_i - mean) / (std + eps) (1 where the prompt is kept, lambda where not)
    P = longest right response;  N = mean length of the wrong ones, those of ``max_length`` or more left out

``llm``: kept where P > N; P is -inf without a right response, N is -inf without a wrong one.
``vl``:  kept where P > N or nothing is right; N is +inf without a wrong one. The two differ in groups
without a right or without a wrong response, and in eps.
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
    Stages,
    StepContext,
    group_normalised,
    grpo_stages,
    hp,
    per_group,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

#: Code base -> (length from which a wrong response is not counted, what is added to the deviation).
VARIANTS = {"llm": (4054, 1e-6), "vl": (4094, 1e-9)}


def keeps(right_n: Tensor, length_n: Tensor, variant: str, max_length: float) -> bool:
    """Whether a group keeps its advantages."""
    wrong = length_n[~right_n & (length_n < max_length)]
    longest = float(length_n[right_n].max()) if bool(right_n.any()) else -math.inf
    none = -math.inf if variant == "llm" else math.inf
    kept = longest > (float(wrong.mean()) if len(wrong) else none)
    return kept or (variant == "vl" and not bool(right_n.any()))


def prompt_weights(
    reward_B: Tensor, length_B: Tensor, group_B: Tensor, *, variant: str, weight: float, correct_score: float,
    max_length: float,
) -> Tensor:  # fmt: skip
    """1 or ``weight`` for each row's prompt, ``[B]``."""

    def formula(reward_n: Tensor, length_n: Tensor) -> Tensor:
        kept = keeps(reward_n > correct_score, length_n, variant, max_length)
        return torch.full_like(reward_n, 1.0 if kept else weight)

    return per_group(formula, group_B, reward_B, length_B)


@dataclass(frozen=True)
class LengthGated(Advantage):
    """GRPO's advantage, smaller for prompts whose right responses are not the long ones."""

    variant: str
    weight: float
    correct_score: float
    max_length: int

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        reward, group = batch.rewards(), batch.group_B
        weight = prompt_weights(
            reward, batch.length_B, group, variant=self.variant, weight=self.weight,
            correct_score=self.correct_score, max_length=self.max_length,
        )  # fmt: skip
        advantage = group_normalised(reward, group, eps=VARIANTS[self.variant][1])
        return Out(advantage * weight, {"adora/kept": float((weight == 1).float().mean())})


@register("adora")
@dataclass(frozen=True)
class ADORA(ClippedMethod):
    """GRPO that learns less from prompts whose long responses are the wrong ones."""

    variant: str = hp("llm", "whose rule: language or vision-language code", choices=tuple(VARIANTS))
    weight: float = hp(0.1, "lambda, the factor on the advantages of all other prompts", ge=0)
    correct_score: float = hp(0.5, "reward above which a response is right")
    max_length: int | None = hp(
        None, "wrong responses of so many tokens are not counted; null is 4054 (llm), 4094 (vl)", gt=0
    )
    kl_coef: float = hp(0.0, "weight of the k3 KL to the frozen reference (scripts 0.001)", ge=0)

    def stages(self) -> Stages:
        longest = self.max_length or VARIANTS[self.variant][0]
        kl = ReferenceKL(self.kl_coef, "k3", self.aggregation)
        return grpo_stages().with_(
            advantage=LengthGated(self.variant, self.weight, self.correct_score, longest),
            loss=self.clipped_loss(),
            regularisers=(kl,) if self.kl_coef else (),
        )
