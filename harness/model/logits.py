"""Token statistics from hidden states and the LM head, without ever holding the [B,T,V] logits.

Log-prob and entropy alone are taken from tiles (:mod:`harness.model.log_prob`), any other declared
:class:`~harness.stages.token_stats.TokenStat`, with them or without, from whole rows
(:mod:`harness.model.declared`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.model.declared import DeclaredStats
from harness.model.head import PLAIN, HeadCurve
from harness.model.log_prob import LogProbEntropy
from harness.stages.token_stats import Entropy, LogProb, TokenStat


def chunk_rows(vocab: int, budget_bytes: int = 64 << 20) -> int:
    """Positions per chunk so that a chunk's fp32 logits stay within ``budget_bytes``."""
    return max(1, budget_bytes // (4 * vocab))


def token_stats(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    target_N: Tensor,
    stats: Sequence[TokenStat],
    *,
    bias_V: Tensor | None = None,
    temperature: float = 1.0,
    chunk: int | None = None,
    curve: HeadCurve = PLAIN,
) -> dict[str, Tensor]:
    """The declared ``stats`` at N positions.

    Args:
        hidden_ND: hidden states that the head reads, one row per position; those after the final norm, but
            for statistics of a layer.
        weight_VD: LM head.
        target_N: id of the token that follows each position.
        temperature: the logits are divided by it.
        chunk: positions per chunk; by default as many as keep a chunk under 64 MiB.
        curve: what the model makes of the head's products.

    Returns:
        ``{stat.name: [N]}``, differentiable with respect to ``hidden_ND`` and ``weight_VD``.
    """
    chunk = chunk or chunk_rows(weight_VD.shape[0])
    plain: list[TokenStat] = [
        s for s in stats
        if s in (LogProb(s.name, s.on, layer=s.layer), Entropy(s.name, s.on, layer=s.layer))
    ]  # fmt: skip
    if len(plain) < len(stats):
        values = DeclaredStats.apply(
            hidden_ND, weight_VD, bias_V, target_N, temperature, chunk, curve, torch.is_grad_enabled(),
            tuple(stats),
        )  # fmt: skip
        return {stat.name: value for stat, value in zip(stats, values, strict=True)}
    logp, entropy = LogProbEntropy.apply(
        hidden_ND, weight_VD, bias_V, target_N, temperature, chunk * weight_VD.shape[0], curve,
        torch.is_grad_enabled(), any(isinstance(s, Entropy) for s in stats),
    )  # fmt: skip
    return {s.name: logp if isinstance(s, LogProb) else entropy for s in stats}
