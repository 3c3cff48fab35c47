r"""PSR, NSR and W-REINFORCE: learning from right or from wrong samples only (arXiv 2506.01347).

R is the verdict, 0 or 1; no baseline, no group, no standard deviation.

    psr   trains on right rows alone, A = 1
    nsr   trains on wrong rows alone, A = -1
    w     trains on all rows, A = lambda on right ones, -1 on wrong ones

Loss: max(-A r, -A clip(r, 1 - e, 1 + e)), averaged over the tokens of the rows that train.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    Advantage,
    Batch,
    ClippedMethod,
    EntropyBonus,
    Out,
    Selection,
    Stages,
    StepContext,
    TokenRatio,
    grpo_stages,
    hp,
    need_verdicts,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


def signed_returns(return_BT: Tensor, correct_B: Tensor, positive_weight: float) -> Tensor:
    """W-REINFORCE's advantage, ``[B,T]``: ``positive_weight`` times the returns of right rows, -1 plus those
    of wrong ones; with weight 1 right rows have PSR's advantage, and wrong ones always NSR's."""
    right_B1 = (correct_B > 0)[:, None]
    return torch.where(right_B1, positive_weight * return_BT, return_BT - 1)


@dataclass(frozen=True)
class SignedVerdict(Advantage):
    """``positive_weight`` on right rows, -1 on wrong ones."""

    positive_weight: float = 1.0

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        reward = need_verdicts(batch.rewards(), "nsr")
        return Out(signed_returns(reward[:, None], reward, self.positive_weight)[:, 0])


@dataclass(frozen=True)
class OnlyVerdict(Selection):
    """The rows of one verdict; all others are dropped before the update, so that nothing counts them."""

    right: bool

    def keeps(self, batch: Batch) -> Tensor:
        """Bool ``[B]``."""
        return (batch.correct_B > 0) == self.right

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        keep = self.keeps(batch)
        return Out(batch.rows(keep), {"nsr/kept_share": float(keep.float().mean())})


@dataclass(frozen=True)
class Decomposed(ClippedMethod):
    """What the three entries share."""

    entropy_coef: float = hp(0.0, "weight of an entropy bonus (paper 1e-4, code 1e-3)", ge=0)
    scale = "none"  # no group is needed: rollout.group_size=1 is fine

    def stages(self) -> Stages:
        bonus = EntropyBonus(self.entropy_coef, self.aggregation)
        return grpo_stages().with_(
            advantage=SignedVerdict(),
            loss=self.clipped_loss(TokenRatio(None)),
            regularisers=(bonus,) if self.entropy_coef else (),
        )


@register("nsr@psr")
@dataclass(frozen=True)
class PSR(Decomposed):
    """REINFORCE on right samples alone."""

    def stages(self) -> Stages:
        return super().stages().with_(selection=OnlyVerdict(right=True))


@register("nsr@nsr")
@dataclass(frozen=True)
class NSR(Decomposed):
    """REINFORCE on wrong samples alone."""

    def stages(self) -> Stages:
        return super().stages().with_(selection=OnlyVerdict(right=False))


@register("nsr@w")
@dataclass(frozen=True)
class WREINFORCE(Decomposed):
    """REINFORCE on all samples, with less weight on the right ones."""

    positive_weight: float = hp(0.1, "lambda, the weight of right samples", ge=0)

    def stages(self) -> Stages:
        return super().stages().with_(advantage=SignedVerdict(self.positive_weight))
