"""Statistics from a position's likeliest tokens, as samplers give them, and of the tokens that follow one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from harness.stages.base import StepContext
from harness.stages.batch import Batch
from harness.stages.token_stats import TokenStat

if TYPE_CHECKING:
    from torch import Tensor


def truncated_entropy(logp_K: Tensor, tail: bool = False) -> Tensor:
    """-sum of e^l l over the log-probs of the last dimension, nats; an impossible token, l = -inf, adds 0.

    ``tail``: what they leave of the probability counts as one more outcome.
    """
    p_K = logp_K.exp()
    kept = -torch.where(logp_K == -torch.inf, 0.0, p_K * logp_K).sum(-1)
    if not tail:
        return kept
    rest = (1 - p_K.sum(-1)).clamp(min=0)
    return kept - torch.xlogy(rest, rest)


@dataclass(frozen=True)
class TopEntropy(TokenStat):
    """:func:`truncated_entropy` of the ``k`` likeliest tokens, or of all where there are fewer."""

    name: str = ""
    k: int = 10
    tail: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", f"entropy_top{self.k}{'+' if self.tail else ''}")

    def compute(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        best_NK = logits_NV.topk(min(self.k, logits_NV.shape[1]), dim=1).values
        return truncated_entropy(best_NK - logits_NV.logsumexp(1, keepdim=True), self.tail)


@dataclass(frozen=True)
class TopToken(TokenStat):
    """Id of the likeliest token, as a number of the logits' type: exact up to 2^24."""

    name: str = "top_token"

    def compute(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        return logits_NV.argmax(1).to(logits_NV.dtype)


def top_token_says(batch: Batch, ctx: StepContext, words: str) -> Tensor:
    """Where the likeliest token (:class:`TopToken` of the old pass) is one of ``words``, bool ``[B,T]``.

    Args:
        words: separated by blanks, in lower case; the token is stripped and put into lower case, too.
    """
    ids_BT, wanted = batch.old[TopToken().name].long(), frozenset(words.split())
    ids = ids_BT[batch.mask_BT].unique()
    said = [text.strip().lower() in wanted for text in ctx.pieces(ids.tolist())]
    return torch.isin(ids_BT, ids[torch.tensor(said, dtype=torch.bool)]) & batch.mask_BT


def following_mean(value_BT: Tensor, mask_BT: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """The mean over the ``window`` tokens behind each token, and where there are as many: ``[B,T]``, bool.

    The mean is 0 where there are not.
    """
    mask, width = mask_BT.bool(), mask_BT.shape[1]
    whole, mean = torch.zeros_like(mask), torch.zeros_like(value_BT)
    if width > window:
        whole[:, : width - window] = mask[:, window:] & mask[:, : width - window]
        mean[:, : width - window] = value_BT.unfold(1, window, 1)[:, 1:].mean(-1)
    return torch.where(whole, mean, 0.0), whole


def row_quantile(value_BT: Tensor, mask_BT: Tensor, percentile: float) -> Tensor:
    """The percentile (linear) of each response's values, ``[B]``."""
    pairs = zip(value_BT, mask_BT.bool(), strict=True)
    return torch.stack([torch.quantile(row[mask], percentile / 100) for row, mask in pairs])
