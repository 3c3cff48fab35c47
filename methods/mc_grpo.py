r"""MC-GRPO: median-centred GRPO for few rollouts (arXiv 2601.22582).

The mean of a small group is noisy and flips the sign of advantages. n = G + 1 responses are drawn for each
prompt, centred on their median, scaled by the median absolute deviation, and the median response is left out:

    m = median of the group's rewards (the lower middle one where n is even), j its row
    A_i = (R_i - m) / (MAD + 1e-3),   MAD = median |R_i - m|
    optionally, where |A_i| > 1e-6:  A_i <- A_i n / (number of such rows in the group)
    loss = clipped loss (0.2 / 0.2) + beta k3(logp, ref_logp) per token, over all rows but j

With verdicts and an odd n the majority's reward is the median, MAD is 0, and the minority has advantages of
+-(reward gap) / 0.001: the gradient's clip and Adam tame that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    Advantage,
    Batch,
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    ReferenceKL,
    RunConfig,
    Selection,
    Stages,
    StepContext,
    SurplusRollout,
    TokenRatio,
    UserError,
    VerdictReward,
    grpo_stages,
    hp,
    refuse_lone_rollouts,
    register,
    without_rows,
)

if TYPE_CHECKING:
    from torch import Tensor

#: TRL's ``grpo``, ``dr_grpo`` and ``dapo``; of the last the denominator counts the median response, too.
AGGREGATIONS = ("seq-mean-token-mean", "all-seq-mean-token-sum-norm", "token-mean")


def median_centred(reward_B: Tensor, group_B: Tensor, mad_eps: float = 1e-3) -> tuple[Tensor, Tensor]:
    """A, ``[B]``, and bool ``[B]``: the row of each group that is its median.

    Which of several equal rewards is the median's is left to ``torch.median``.
    """
    advantage_B = torch.zeros_like(reward_B)
    median_B = torch.zeros(len(reward_B), dtype=torch.bool)
    for group in torch.unique(group_B):
        rows = (group_B == group).nonzero().flatten()
        middle, index = reward_B[rows].median(dim=0)
        centred = reward_B[rows] - middle
        advantage_B[rows] = centred / (centred.abs().median() + mad_eps)
        median_B[rows[index]] = True
    return advantage_B, median_B


def rescaled(advantage_B: Tensor, group_B: Tensor, threshold: float = 1e-6) -> Tensor:
    """``advantage_B`` with what is not 0 made larger, by the group's size over the number of such rows."""
    _, index_B, count_G = torch.unique(group_B, return_inverse=True, return_counts=True)
    there_B = advantage_B.abs() > threshold
    active_G = torch.zeros_like(count_G).index_add(0, index_B, there_B.long())
    factor_G = count_G.to(advantage_B.dtype) / active_G.clamp(min=1).to(advantage_B.dtype)
    return torch.where(there_B, advantage_B * factor_G[index_B], advantage_B)


@dataclass(frozen=True)
class MedianAdvantage(Advantage):
    """A above, of all rows of a group."""

    mad_eps: float = 1e-3
    rescale: bool = False

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        advantage_B, _ = median_centred(batch.rewards(), batch.group_B, self.mad_eps)
        metrics = {"mc_grpo/active": float((advantage_B != 0).double().mean())}
        return Out(rescaled(advantage_B, batch.group_B) if self.rescale else advantage_B, metrics)


@dataclass(frozen=True)
class WithoutMedian(Selection):
    """Leaves each group's median row out; ``counted`` is that of :func:`without_rows`."""

    counted: str = "kept"

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        _, median_B = median_centred(batch.rewards(), batch.group_B)
        return Out(without_rows(batch, median_B, self.counted))


@register("mc-grpo")
@dataclass(frozen=True)
class MCGRPO(Method):
    """GRPO around the median of one response more than it trains on."""

    mad_eps: float = hp(1e-3, "added to the median absolute deviation, in units of reward", gt=0)
    rescale_nonzero: bool = hp(False, "raise what is not 0 by n / its number (the GSM8K script)")
    reward_right: float = hp(2.0, "reward of a correct response (2 in the MATH script)")
    reward_wrong: float = hp(0.0, "reward of any other response")
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    kl_coef: float = hp(0.04, "weight of the k3 KL to the frozen reference", ge=0)
    aggregation: str = hp("seq-mean-token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if self.reward_right <= self.reward_wrong:
            raise UserError("method.reward_right must exceed method.reward_wrong")
        refuse_lone_rollouts(run, "mc-grpo trains on rollout.group_size of the group_size + 1 it draws")

    def stages(self) -> Stages:
        kl = ReferenceKL(self.kl_coef, "k3", self.aggregation, exponent_clamp=None, value_clamp=None)
        return grpo_stages().with_(
            rollout=SurplusRollout(1),
            reward=VerdictReward(self.reward_right, self.reward_wrong),
            advantage=MedianAdvantage(self.mad_eps, self.rescale_nonzero),
            selection=WithoutMedian("sampled" if self.aggregation == "token-mean" else "kept"),
            loss=PolicyLoss(
                ratio=TokenRatio(clamp=None),
                bounds=FixedBounds(self.eps_low, self.eps_high),
                aggregation=self.aggregation,
            ),
            regularisers=(kl,) if self.kl_coef else (),
        )
