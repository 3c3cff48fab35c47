"""Losses of uncertain tokens alone: those that had less than a probability when they were sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.stages.base import Out, Stats
from harness.stages.batch import Batch
from harness.stages.credit import whitened
from harness.stages.loss import PolicyLoss, TokenCredit
from harness.stages.regularise import ReferenceKL
from harness.stages.token_stats import LOGP

if TYPE_CHECKING:
    from torch import Tensor


def uncertain(old_logp_BT: Tensor, mask_BT: Tensor, threshold: float = 0.9) -> Tensor:
    """Bool ``[B,T]``: tokens that had a probability below the threshold."""
    return (old_logp_BT.exp() < threshold) & mask_BT.bool()


def whitened_over(advantage_BT: Tensor, chosen_BT: Tensor, mask_BT: Tensor, eps: float = 1e-8) -> Tensor:
    """All advantages with mean 0 and variance 1 over the chosen tokens, or over all where none is chosen."""
    return whitened(advantage_BT, chosen_BT if bool(chosen_BT.any()) else mask_BT, "unbiased", eps)


@dataclass(frozen=True)
class UncertainWhitening(TokenCredit):
    """The advantage, whitened over the uncertain tokens of the optimiser step."""

    threshold: float
    eps: float = 1e-8

    minibatch_scope = True
    old_stats = (LOGP,)

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        chosen = uncertain(batch.old["logp"], batch.train_mask_BT, self.threshold)
        advantage = batch.advantages().to(current["logp"].dtype)
        return Out(whitened_over(advantage, chosen, batch.mask_BT, self.eps))


@dataclass(frozen=True)
class UncertainLoss(PolicyLoss):
    """The clipped loss of the uncertain tokens."""

    threshold: float = 0.9

    def tokens(self, batch: Batch) -> Tensor:
        return uncertain(batch.old["logp"], batch.train_mask_BT, self.threshold)


@dataclass(frozen=True)
class UncertainKL(ReferenceKL):
    """k3 to the reference, summed over a row's uncertain tokens; the mean over all rows, empty ones too."""

    threshold: float = 0.9

    minibatch_scope = True
    old_stats = (LOGP,)

    def tokens(self, batch: Batch) -> Tensor:
        return uncertain(batch.old["logp"], batch.train_mask_BT, self.threshold)

    def prepare(self, batch: Batch, current: Stats) -> Out[dict[str, Tensor]]:
        # the reduction divides by the rows that have a token
        share = self.tokens(batch).any(1).double().mean().to(current["logp"].dtype)
        return Out({"counted": share.expand(len(batch), 1)})
