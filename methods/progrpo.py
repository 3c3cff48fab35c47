r"""ProGRPO: re-weighting advantages by generative probabilities (arXiv 2602.05281) - a RECONSTRUCTION.

    A_i  = GRPO advantage
    c(x) = exp( mean over T_low of log p(x_t | before) ),  T_low = the 20 % least likely positions of x
    A~_i = A_i + alpha (c(q) - c(o_i | q))     where the group has a correct answer, else A_i

with q the prompt and o_i the response, both under the old policy. Then the clipped loss (0.2 / 0.28),
averaged over tokens. The number of positions, the prompt's part, the policy used, ddof and alpha are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    LOGP,
    PROMPT_LOGP,
    Advantage,
    Batch,
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    Stages,
    StepContext,
    group_normalised,
    grpo_stages,
    hp,
    register,
    share_of,
)

if TYPE_CHECKING:
    from torch import Tensor


def lowest_share(logp_BX: Tensor, mask_BX: Tensor, fraction: float) -> Tensor:
    """Bool ``[B,X]``: the ``max(1, ceil(fraction n))`` least likely of a row's n positions."""
    k_B = share_of(mask_BX.sum(1), fraction, up=True)  # ours, as all of the reconstruction
    order = logp_BX.masked_fill(~mask_BX.bool(), float("inf")).argsort(dim=1, stable=True)
    rank = torch.zeros_like(order).scatter(1, order, torch.arange(order.shape[1]).expand_as(order))
    return (rank < k_B[:, None]) & mask_BX.bool()


def confidence(
    logp_BX: Tensor, mask_BX: Tensor, fraction: float = 0.2, rule: str = "share", threshold: float = 0.9
) -> Tensor:
    """c, ``[B]``: length-normalised likelihood of a row's unlikely positions; 1 for a row without positions.

    Args:
        rule: ``share`` (the least likely ``fraction``), ``threshold`` (all with p < ``threshold``, at least
            the least likely one) or ``all``.
    """
    if rule == "all":
        low = mask_BX.bool()
    elif rule == "threshold":
        low = (logp_BX.exp() < threshold) & mask_BX.bool()
        low = torch.where(low.any(1, keepdim=True), low, lowest_share(logp_BX, mask_BX, 0.0))
    else:
        low = lowest_share(logp_BX, mask_BX, fraction)
    total = torch.where(low, logp_BX, torch.zeros_like(logp_BX)).sum(1)
    return (total / low.sum(1).clamp(min=1)).exp()


def reweighted(
    advantage_B: Tensor,
    correct_B: Tensor,
    group_B: Tensor,
    prompt_confidence_B: Tensor,
    answer_confidence_B: Tensor,
    alpha: float,
    gate: str = "any_correct",
) -> Tensor:
    """A~, ``[B]``; ``gate="mixed_only"`` leaves all-correct groups alone too."""
    _, index_B, count = torch.unique(group_B, return_inverse=True, return_counts=True)
    right = torch.zeros(len(count), dtype=correct_B.dtype).index_add(0, index_B, correct_B)
    on = right > 0 if gate == "any_correct" else (right > 0) & (right < count)
    return advantage_B + alpha * (prompt_confidence_B - answer_confidence_B) * on[index_B]


def without_first(mask_BP: Tensor) -> Tensor:
    """``mask_BP`` minus each row's first true position: a prompt's first token has no log-prob."""
    return mask_BP & (mask_BP.cumsum(1) > 1)


@dataclass(frozen=True)
class ReweightedAdvantage(Advantage):
    """GRPO's advantage plus the confidence term."""

    alpha: float
    low_fraction: float
    gate: str
    low_rule: str
    prompt_rule: str

    old_stats = (LOGP, PROMPT_LOGP)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        advantage = group_normalised(batch.rewards(), batch.group_B)
        prompt_rule = "all" if self.prompt_rule == "all" else self.low_rule
        prompt_mask = without_first(batch.prompt_mask_BP)
        prompt = confidence(batch.old["prompt_logp"], prompt_mask, self.low_fraction, prompt_rule)
        answer = confidence(batch.old["logp"], batch.mask_BT, self.low_fraction, self.low_rule)
        value = reweighted(advantage, batch.correct_B, batch.group_B, prompt, answer, self.alpha, self.gate)
        metrics = {"progrpo/prompt": float(prompt.mean()), "progrpo/answer": float(answer.mean())}
        return Out(value.to(advantage.dtype), metrics)


@register("progrpo")
@dataclass(frozen=True)
class ProGRPO(Method):
    """GRPO with clip-higher whose advantage favours answers the model is less sure of."""

    alpha: float = hp(0.1, "size of the confidence term (ours; the paper's value is unknown)", ge=0)
    low_fraction: float = hp(0.2, "share of a sequence's positions that count as unlikely", gt=0, le=1)
    gate: str = hp("any_correct", "groups that get the term", choices=("any_correct", "mixed_only"))
    low_rule: str = hp("share", "unlikely: the lowest share, or p < 0.9", choices=("share", "threshold"))
    prompt_rule: str = hp("low", "positions in c(q): the unlikely ones or all", choices=("low", "all"))
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.28, "ratio clip above 1", ge=0)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def stages(self) -> Stages:
        return grpo_stages().with_(
            advantage=ReweightedAdvantage(
                self.alpha, self.low_fraction, self.gate, self.low_rule, self.prompt_rule
            ),
            loss=PolicyLoss(bounds=FixedBounds(self.eps_low, self.eps_high), aggregation=self.aggregation),
        )
