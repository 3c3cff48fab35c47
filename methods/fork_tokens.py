r"""Fork tokens, the 80/20 rule: only the most uncertain tokens train (arXiv 2506.01939, eq. 5-6).

    kept = the K = max(1, ceil(N rho)) of N response tokens with the largest entropy H_t
    loss = sum over kept of DAPO's token loss / K

H_t is the full-softmax entropy of the CURRENT policy, so the choice changes between the updates of a rollout;
N counts the minibatch. Everything else is DAPO. TRL's form keeps H_t >= quantile(H, 1 - rho), interpolated,
and divides by N: ``rule=quantile divisor=all``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from entrobench import (
    ENTROPY,
    Batch,
    Out,
    PolicyLoss,
    Stages,
    Stats,
    TokenSelection,
    hp,
    largest,
    register,
    share_of,
)
from methods.dapo import DAPO

if TYPE_CHECKING:
    from torch import Tensor


def top_count(entropy_BT: Tensor, mask_BT: Tensor, rho: float) -> Tensor:
    """Bool ``[B,T]``: exactly ``max(1, ceil(N rho))`` tokens of largest entropy; of equals the earlier."""
    n = share_of(mask_BT.sum(), rho, up=True)  # the official code rounds up: N rho + 0.9999
    return largest(entropy_BT, mask_BT, int(n))


def above_quantile(entropy_BT: Tensor, mask_BT: Tensor, rho: float) -> Tensor:
    """Bool ``[B,T]``: tokens at or above the linearly interpolated ``1 - rho`` quantile of the entropies."""
    inside = entropy_BT[mask_BT]
    if not len(inside):
        return mask_BT
    position = (len(inside) - 1) * (1 - rho)
    ordered = inside.sort().values
    below = int(position)
    above = min(below + 1, len(inside) - 1)
    threshold = torch.lerp(ordered[below], ordered[above], position - below)
    return (entropy_BT >= threshold) & mask_BT


@dataclass(frozen=True)
class HighEntropy(TokenSelection):
    """The share ``rho`` of the minibatch's tokens with the largest current entropy."""

    rho: float
    rule: str = "count"
    divisor: str = "kept"

    current_stats = (ENTROPY,)
    minibatch_scope = True

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        entropy, mask = current["entropy"], batch.train_mask_BT
        choose = top_count if self.rule == "count" else above_quantile
        kept = choose(entropy, mask, self.rho)
        dropped = mask & ~kept
        metrics = {"fork_tokens/kept": float(kept.sum()) / max(int(mask.sum()), 1)}
        if bool(kept.any()):
            metrics["fork_tokens/threshold"] = float(entropy[kept].min())
            metrics["fork_tokens/entropy_kept"] = float(entropy[kept].mean())
        if bool(dropped.any()):
            metrics["fork_tokens/entropy_dropped"] = float(entropy[dropped].mean())
        return Out(kept, metrics)


@register("fork-tokens")
@dataclass(frozen=True)
class ForkTokens(DAPO):
    """DAPO on the most uncertain tokens."""

    rho: float = hp(0.2, "share of tokens that train", gt=0, le=1)
    rule: str = hp("count", "exact count, or TRL's interpolated quantile", choices=("count", "quantile"))
    divisor: str = hp("kept", "tokens the mean is taken over (TRL: all)", choices=("kept", "all"))

    def stages(self) -> Stages:
        stages = super().stages()
        assert isinstance(stages.loss, PolicyLoss)
        selection = HighEntropy(self.rho, self.rule, self.divisor)
        return stages.with_(loss=replace(stages.loss, selection=selection))
