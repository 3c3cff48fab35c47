"""Token statistics from hidden states and the LM head, without ever holding the [B,T,V] logits.

``token_stats`` walks over the positions in chunks. Log-prob and entropy have analytic gradients and keep two
numbers a position; any other declared :class:`~harness.stages.token_stats.TokenStat` is differentiated by
recomputing its chunk.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from harness.model.head import PLAIN, HeadCurve, head_logits
from harness.model.log_prob import LogProbEntropy
from harness.stages.token_stats import Entropy, LogProb, TokenStat


def _logits(
    hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, temperature: float, curve: HeadCurve
) -> Tensor:
    logits = head_logits(hidden_ND, weight_VD, bias_V, curve)
    return logits if temperature == 1.0 else logits / temperature


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
    out: dict[str, Tensor] = {}
    plain: list[TokenStat] = [
        s for s in stats
        if s in (LogProb(s.name, s.on, layer=s.layer), Entropy(s.name, s.on, layer=s.layer))
    ]  # fmt: skip
    if plain:
        logp, entropy = LogProbEntropy.apply(
            hidden_ND, weight_VD, bias_V, target_N, temperature, chunk * weight_VD.shape[0], curve,
            torch.is_grad_enabled(),
        )  # fmt: skip
        for s in plain:
            out[s.name] = logp if isinstance(s, LogProb) else entropy
    extra = [s for s in stats if s not in plain]
    if extra:

        def compute(hidden: Tensor, target: Tensor) -> tuple[Tensor, ...]:
            logits = _logits(hidden, weight_VD, bias_V, temperature, curve)
            return tuple(s.at_temperature(logits, target, temperature) for s in extra)

        parts = []
        for h, t in zip(hidden_ND.split(chunk), target_N.split(chunk), strict=True):
            if torch.is_grad_enabled():
                parts.append(checkpoint(compute, h, t, use_reentrant=False))
            else:
                parts.append(compute(h, t))
        for i, s in enumerate(extra):
            out[s.name] = torch.cat([p[i] for p in parts])
    return out
