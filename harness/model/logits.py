"""Token statistics from hidden states and the LM head, without ever holding the [B,T,V] logits.

``token_stats`` walks over the positions in chunks. Log-prob and entropy have analytic gradients and keep two
numbers a position; any other declared :class:`~harness.stages.token_stats.TokenStat` is differentiated by
recomputing its chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from harness.stages.token_stats import Entropy, LogProb, TokenStat


@dataclass(frozen=True)
class HeadCurve:
    """What a model makes of its head's products x: ``scale * x``, then ``cap * tanh(x / cap)`` if it caps."""

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap

    @property
    def plain(self) -> bool:
        return self.scale == 1.0 and self.cap is None

    def slope(self, logits: Tensor) -> Tensor | float:
        """The derivative where the curve's value is ``logits``."""
        return self.scale if self.cap is None else self.scale * (1 - (logits / self.cap) ** 2)


PLAIN = HeadCurve()


def head_logits(
    hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None = None, curve: HeadCurve = PLAIN
) -> Tensor:
    """``[N,V]`` logits in fp32 or wider: products of bf16 values are summed and kept in fp32."""
    return curve(_products(hidden_ND, weight_VD, bias_V))


def _products(hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:
    if hidden_ND.dtype not in (torch.float16, torch.bfloat16):
        return torch.nn.functional.linear(hidden_ND, weight_VD, bias_V)
    if hidden_ND.is_cuda and not torch.is_grad_enabled():
        logits = torch.mm(hidden_ND, weight_VD.T, out_dtype=torch.float32)
    else:
        logits = torch.nn.functional.linear(hidden_ND.float(), weight_VD.float())
    return logits if bias_V is None else logits + bias_V.float()


def _logits(
    hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, temperature: float, curve: HeadCurve
) -> Tensor:
    logits = head_logits(hidden_ND, weight_VD, bias_V, curve)
    return logits if temperature == 1.0 else logits / temperature


class _LogProbEntropy(torch.autograd.Function):
    """Log-prob and entropy of every position, chunk by chunk; the logits are recomputed in backward.

    With z the logits and p their softmax: d logp / dz = onehot - p and dH/dz = -p (log p + H). A curve behind
    the head multiplies both by its slope.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        temperature: float,
        chunk: int,
        curve: HeadCurve,
    ) -> tuple[Tensor, Tensor]:
        n = hidden.shape[0]
        dtype = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        logp, entropy, lse = (torch.empty(n, dtype=dtype, device=hidden.device) for _ in range(3))
        for start in range(0, n, chunk):
            part = slice(start, start + chunk)
            z = _logits(hidden[part], weight, bias, temperature, curve)
            lse[part] = z.logsumexp(1)
            logp[part] = z.gather(1, target[part, None]).squeeze(1) - lse[part]
            p = (z - lse[part, None]).exp_()
            entropy[part] = lse[part] - p.mul_(z).sum(1)
        ctx.save_for_backward(hidden, weight, bias, target, lse, entropy)
        ctx.temperature, ctx.chunk, ctx.curve = temperature, chunk, curve
        return logp, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_logp, grad_entropy = grads
        hidden, weight, bias, target, lse, entropy = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=lse.dtype) if ctx.needs_input_grad[1] else None
        grad_bias = (
            torch.zeros_like(bias, dtype=lse.dtype) if bias is not None and ctx.needs_input_grad[2] else None
        )
        for start in range(0, hidden.shape[0], ctx.chunk):
            part = slice(start, start + ctx.chunk)
            z = _logits(hidden[part], weight, bias, ctx.temperature, ctx.curve)
            logp_all = z - lse[part, None]
            p = logp_all.exp()
            gl, gh = grad_logp[part, None], grad_entropy[part, None]
            grad_z = -p * (gl + gh * (logp_all + entropy[part, None]))
            grad_z.scatter_add_(1, target[part, None], gl.to(grad_z.dtype))
            if ctx.temperature != 1.0:
                grad_z = grad_z / ctx.temperature
            if not ctx.curve.plain:
                grad_z = grad_z * ctx.curve.slope(z * ctx.temperature)
            local = grad_z.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = local @ weight
            if grad_weight is not None:
                grad_weight += (local.T @ hidden[part]).to(grad_weight.dtype)
            if grad_bias is not None:
                grad_bias += grad_z.sum(0)
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None or bias is None else grad_bias.to(bias.dtype),
            None,
            None,
            None,
            None,
        )


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
        hidden_ND: last hidden states (after the final norm), one row per position.
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
    plain: list[TokenStat] = [s for s in stats if s in (LogProb(s.name, s.on), Entropy(s.name, s.on))]
    if plain:
        logp, entropy = _LogProbEntropy.apply(
            hidden_ND, weight_VD, bias_V, target_N, temperature, chunk, curve
        )
        for s in plain:
            out[s.name] = logp if isinstance(s, LogProb) else entropy
    extra = [s for s in stats if s not in plain]
    if extra:

        def compute(hidden: Tensor, target: Tensor) -> tuple[Tensor, ...]:
            logits = _logits(hidden, weight_VD, bias_V, temperature, curve)
            return tuple(s.compute(logits, target) for s in extra)

        parts = []
        for h, t in zip(hidden_ND.split(chunk), target_N.split(chunk), strict=True):
            if torch.is_grad_enabled():
                parts.append(checkpoint(compute, h, t, use_reentrant=False))
            else:
                parts.append(compute(h, t))
        for i, s in enumerate(extra):
            out[s.name] = torch.cat([p[i] for p in parts])
    return out
