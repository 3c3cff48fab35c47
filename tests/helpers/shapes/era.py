"""ERA (arXiv 2510.08549): logits of positive, too certain responses are rescaled in both passes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.stages.base import Stages, Stats
from harness.stages.batch import Batch
from harness.stages.defaults import grpo_stages
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio, log_ratio
from harness.stages.token_stats import ENTROPY, TokenStat


@dataclass(frozen=True)
class ActivatedLogProb(TokenStat):
    """log-prob of logits times ``scale``, normalised over the largest ``top_k`` only."""

    name: str = ""
    scale: float = 1.0
    top_k: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"era@{self.scale:g}")

    def compute(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        scaled = logits_NV * self.scale
        top = scaled.topk(min(self.top_k, scaled.shape[1]), 1)
        inside = (top.indices == target_N[:, None]).any(1)
        logp = scaled.gather(1, target_N[:, None]).squeeze(1) - top.values.logsumexp(1)
        return torch.where(inside, logp, -1e4)


def response_entropy(entropy_BT: Tensor, mask_BT: Tensor, fraction: float = 0.2) -> Tensor:
    """Mean of each response's largest entropies, ``[B]``."""
    count = (fraction * mask_BT.sum(1)).long().clamp(min=1)
    ordered = entropy_BT.masked_fill(~mask_BT, float("-inf")).sort(1, descending=True).values
    chosen = torch.arange(entropy_BT.shape[1]) < count[:, None]
    return torch.where(chosen, ordered, 0.0).sum(1) / count


@dataclass(frozen=True)
class ActivatedRatio(TokenRatio):
    """Ratio of activated log-probs; each pass chooses its scale by its own entropies."""

    low: float = 0.45
    high: float = 3.0
    k: float = 2.0

    @property
    def _stats(self) -> tuple[TokenStat, ...]:
        return tuple(ActivatedLogProb(scale=s) for s in (1.0, self.k, 1 / self.k))

    @property
    def old_stats(self) -> tuple[TokenStat, ...]:  # type: ignore[override]
        return (ENTROPY, *self._stats)

    @property
    def current_stats(self) -> tuple[TokenStat, ...]:  # type: ignore[override]
        return (ENTROPY, *self._stats)

    def scale(self, batch: Batch, stats: Stats) -> Tensor:
        """f, ``[B]``; the official code truncates the advantage to an integer."""
        entropy = response_entropy(stats["entropy"].detach(), batch.mask_BT)
        positive = batch.advantages()[:, 0].long() > 0
        f = torch.where(entropy < self.low, self.k, torch.where(entropy > self.high, 1 / self.k, 1.0))
        return torch.where(positive, f, 1.0)

    def activated(self, batch: Batch, stats: Stats) -> Tensor:
        f = self.scale(batch, stats)[:, None]
        plain, up, down = (stats[s.name] for s in self._stats)
        return torch.where(f == self.k, up, torch.where(f == 1 / self.k, down, plain))

    def log_ratio(self, batch: Batch, current: Stats) -> Tensor:
        return log_ratio(self.activated(batch, current), self.activated(batch, batch.old), self.clamp)


def era_stages(ratio: ActivatedRatio) -> Stages:
    return grpo_stages().with_(
        loss=PolicyLoss(ratio=ratio, bounds=FixedBounds(1.0, 1.0), dual_clip=10.0, aggregation="token-mean")
    )
