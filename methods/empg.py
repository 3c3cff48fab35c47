r"""EMPG: entropy-modulated policy gradients (arXiv 2509.09265).

A response is cut into steps; H_is is the mean entropy of step s of response i under the old policy, A_i the
response's GRPO advantage. Over ALL steps of the batch:

    Hn = (H - min H) / (max H - min H + 1e-8)
    g  = exp(-k Hn) / (mean of exp(-k Hn) + 1e-8),      f = exp(-k' Hn)
    A'_is = A_i g_is + zeta f_i,s+1,                     no bonus for the last step of a response
    A_is  = A'_is - mean of A' over the steps,           each step counts once, however long it is

on every token of the step. Confident steps weigh more, with their sign, and a step is rewarded for being
followed by a confident one. g and f are constants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from entrobench import (
    AGGREGATIONS,
    ENTROPY,
    Advantage,
    Batch,
    ClippedMethod,
    Out,
    RunConfig,
    Stages,
    StepContext,
    group_normalised,
    grpo_stages,
    hp,
    register,
    segment_means,
    step_numbers,
    step_pattern,
)

if TYPE_CHECKING:
    from torch import Tensor


class Steps(NamedTuple):
    """All steps of a batch, row by row and in order: their row, their mean entropy, each token's step.

    ``row_S`` int64, ``entropy_S`` nats, ``index_BT`` int64 (anything on padding).
    """

    row_S: Tensor
    entropy_S: Tensor
    index_BT: Tensor


def steps_of(entropy_BT: Tensor, step_BT: Tensor, mask_BT: Tensor) -> Steps:
    """The steps of a batch, of whose tokens ``step_BT`` gives the number in their row."""
    mask = mask_BT.bool()
    count_B = torch.where(mask, step_BT, -1).amax(1) + 1
    index = torch.where(mask, step_BT + (count_B.cumsum(0) - count_B)[:, None], 0)
    total = int(count_B.sum())
    mean_BT = segment_means(entropy_BT, step_BT, mask)
    entropy = torch.zeros(total, dtype=entropy_BT.dtype)
    entropy[index[mask]] = mean_BT[mask]  # equal on all tokens of a step
    return Steps(torch.repeat_interleave(torch.arange(len(mask)), count_B), entropy, index)


def modulation(entropy_S: Tensor, k: float, k_next: float, eps: float = 1e-8) -> tuple[Tensor, Tensor]:
    """(g, f) of all steps, ``[S]`` each; g has mean 1."""
    low, high = entropy_S.min(), entropy_S.max()
    normed = (entropy_S - low) / (high - low + eps)
    confident = torch.exp(-k * normed)
    return confident / (confident.mean() + eps), torch.exp(-k_next * normed)


def modulated(advantage_S: Tensor, g_S: Tensor, f_S: Tensor, row_S: Tensor, zeta: float) -> Tensor:
    """The centred advantage of each step, ``[S]``; steps of a row follow each other in order."""
    followed = torch.cat([row_S[1:] == row_S[:-1], torch.zeros(1, dtype=torch.bool)])
    bonus = torch.where(followed, f_S.roll(-1), 0.0)
    raw = advantage_S * g_S + zeta * bonus
    return raw - raw.mean()


@dataclass(frozen=True)
class ModulatedAdvantage(Advantage):
    """GRPO's advantage by steps."""

    k: float
    k_next: float
    zeta: float
    step_end: str

    old_stats = (ENTROPY,)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        advantage = group_normalised(batch.rewards(), batch.group_B).double()
        number = step_numbers(batch, ctx, self.step_end)
        steps = steps_of(batch.old["entropy"].double(), number, batch.mask_BT)
        g, f = modulation(steps.entropy_S, self.k, self.k_next)
        credit = modulated(advantage[steps.row_S], g, f, steps.row_S, self.zeta)
        metrics = {
            "empg/steps": len(credit) / max(len(batch), 1),
            "empg/weight_min": float(g.min()),
            "empg/weight_max": float(g.max()),
            "empg/step_entropy": float(steps.entropy_S.mean()),
        }
        return Out(credit[steps.index_BT].to(batch.rewards().dtype), metrics)


@register("empg")
@dataclass(frozen=True)
class EMPG(ClippedMethod):
    """GRPO whose advantage follows the entropy of the step and of the next one."""

    k: float = hp(1.0, "how fast a step's weight falls with its entropy", ge=0)
    k_next: float = hp(1.0, "k': how fast the bonus falls with the next step's entropy", ge=0)
    zeta: float = hp(0.05, "size of the bonus for a confident next step", ge=0)
    step_end: str = hp(
        r"\n\s*\n", "regular expression that ends a step; empty is one step per response (ours)"
    )
    aggregation: str = hp("seq-mean-token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        step_pattern(self.step_end)

    def stages(self) -> Stages:
        loss = self.clipped_loss()
        return grpo_stages().with_(
            advantage=ModulatedAdvantage(self.k, self.k_next, self.zeta, self.step_end), loss=loss
        )
