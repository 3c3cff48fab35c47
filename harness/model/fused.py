"""Decoder layers of the Llama kind in one step of the graph, with gradients written by hand.

Llama, Qwen2, Qwen3, SmolLM2 and whatever is built like them: RMS norm, attention with rotary positions, RMS
norm, SwiGLU, each behind a residual. Transformers' own code makes about fifty nodes of such a layer and keeps
every value in between; here a layer is one node that keeps what its gradient cannot cheaply make again. What
a layer is made of is looked at once (:func:`parts_of`); that it gives the model's own numbers is found out
with everything else when a model is loaded (:mod:`harness.model.agreement`). A CPU in fp32 or fp64 only.

Shape letters: ``L`` tokens of the row, ``D`` hidden size, ``I`` of the MLP, ``H`` heads of queries and ``G``
of keys, ``E`` their size; ``J = H + 2 G``: queries, keys and values side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.model.attention import Layout, attend_back, attend_out
from harness.model.own import layers_of

_LINEAR = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
_HEAD_NORMS = ("self_attn.q_norm", "self_attn.k_norm")
_NORMS = ("input_layernorm", "post_attention_layernorm")
#: In this order a layer's weights are given to :class:`_Layer`; None where it has none.
WEIGHTS = (
    *(f"{name}.{kind}" for name in _LINEAR for kind in ("weight", "bias")),
    *(f"{name}.weight" for name in (*_MLP, *_HEAD_NORMS, *_NORMS)),
)


@dataclass(frozen=True)
class Parts:
    """What a layer is made of besides its weights.

    Attributes:
        heads, groups: ``H`` and ``G``.
        scale: of the products of queries and keys.
        eps: of the norms of queries and keys, of the attention's and of the MLP's input.
    """

    heads: int
    groups: int
    scale: float
    eps: tuple[float, float, float]


def parts_of(layer: Any) -> Parts | None:
    """What ``layer`` is made of, or None where it has other parts than :data:`WEIGHTS` names."""
    modules = dict(layer.named_modules())
    names = {name for name, _ in layer.named_parameters()}
    linear = [modules.get(name) for name in (*_LINEAR, *_MLP)]
    norms = [modules.get(name) for name in (*_HEAD_NORMS, *_NORMS)]
    size = getattr(modules.get("self_attn"), "head_dim", None)
    act = getattr(modules.get("mlp"), "act_fn", None)
    if (
        not names <= set(WEIGHTS)
        or any(type(module) is not torch.nn.Linear for module in linear)
        or not isinstance(size, int)
        or getattr(act, "__class__", None).__name__ not in ("SiLU", "SiLUActivation")
        or any(_eps(norm) is None for norm in norms[2:])
        or any(_hooked(module) for name, module in modules.items() if name)
    ):
        return None
    q, k, v = (module.out_features // size for module in linear[:3])  # type: ignore[union-attr]
    head_norms = [norm for norm in norms[:2] if norm is not None]
    if k != v or q % k or len(head_norms) == 1:
        return None
    if any(_eps(norm) is None or norm.weight.shape != (size,) for norm in head_norms):
        return None
    eps = tuple(_eps(norm) or 0.0 for norm in norms[1:])
    scale = float(getattr(modules["self_attn"], "scaling", size**-0.5))
    return Parts(q, k, scale, eps)  # type: ignore[arg-type]


def _eps(norm: Any) -> float | None:
    """The number that an RMS norm adds to the mean square; None of anything else."""
    if "RMSNorm" not in type(norm).__name__:
        return None
    for name in ("variance_epsilon", "eps"):
        if isinstance(value := getattr(norm, name, None), float):
            return value
    return None


def _hooked(module: Any) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


def fuse(model: Any) -> bool:
    """Let every layer of ``model`` compute packed rows here; whether it can. Other passes stay its own."""
    try:
        layers = list(layers_of(model))
    except ValueError:
        return False
    parts = [parts_of(layer) for layer in layers]
    if not layers or any(p is None for p in parts):
        return False
    for layer, p in zip(layers, parts, strict=True):
        layer.forward = partial(_forward, layer, p, layer.forward)
    return True


def part(model: Any) -> None:
    """Undo :func:`fuse`."""
    for layer in layers_of(model):
        del layer.forward


def _forward(
    layer: Any,
    parts: Parts,
    own: Callable[..., Any],
    hidden_states: Tensor,
    *arguments: Any,
    layout: Any = None,
    **more: Any,
) -> Any:
    """A layer's forward pass: of a packed row in one step, else the layer's own."""
    rotary = more.get("position_embeddings")
    usual = hidden_states.device.type == "cpu" and hidden_states.dtype in (torch.float32, torch.float64)
    if layout is None:
        return own(hidden_states, *arguments, **more)
    if rotary is None or rotary[0].shape[-1] != layer.self_attn.head_dim or not usual:
        return own(hidden_states, *arguments, layout=layout, **more)
    x_LD, cos_L1E, sin_L1E = hidden_states[0], *(value[0][:, None] for value in rotary)
    weights = [_at(layer, name) for name in WEIGHTS]
    if torch.is_grad_enabled():
        return _Layer.apply(x_LD, cos_L1E, sin_L1E, layout, parts, *weights)[None]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return layout.attend(layer.self_attn, q, k, v, parts.scale)  # type: ignore[no-any-return]

    return _passed(x_LD, cos_L1E, sin_L1E, parts, weights, attend)[0][None]


def _at(layer: Any, name: str) -> Tensor | None:
    for step in name.split("."):
        layer = getattr(layer, step, None)
    return layer


class _Layer(torch.autograd.Function):
    """``[L,D]`` of a layer from ``[L,D]``, over a :class:`~harness.model.attention.Layout`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, layout: Layout, parts: Parts, *weights: Tensor | None
    ) -> Tensor:
        lse: list[Tensor] = []

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            out, sums = attend_out(layout, q, k, v, parts.scale)
            lse.append(sums)
            return out

        y, kept = _passed(x, cos, sin, parts, weights, attend)
        ctx.save_for_backward(x, cos, sin, *lse, *kept, *weights)
        ctx.layout, ctx.parts, ctx.kept = layout, parts, len(kept)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, cos, sin, lse, *rest = ctx.saved_tensors
        kept, weights = rest[: ctx.kept], rest[ctx.kept :]
        dx, dw = _back(grads[0], x, cos, sin, lse, kept, weights, ctx.layout, ctx.parts)
        return dx, None, None, None, None, *dw


def _passed(
    x: Tensor, cos: Tensor, sin: Tensor, parts: Parts, weights: Sequence[Tensor | None], attend: Any
) -> tuple[Tensor, list[Tensor | None]]:
    """The layer's output, and what its gradient takes besides the input and the log-sums."""
    wq, bq, wk, bk, wv, bv, wo, bo, w_gate, w_up, w_down, wq_norm, wk_norm, w_in, w_mid = weights
    heads, groups = parts.heads, parts.groups
    rstd_in = _rstd(x, parts.eps[1])
    normed = _normed(x, rstd_in, w_in)
    size = wq.shape[0] // heads
    qkv_LJE = x.new_empty(len(x), heads + 2 * groups, size)
    flat, at = qkv_LJE.flatten(1), 0
    for w, b in ((wq, bq), (wk, bk), (wv, bv)):
        _linear(normed, w, b, flat[:, at : at + len(w)])
        at += len(w)
    qk_LJE = qkv_LJE[:, : heads + groups]
    raw = None
    if wq_norm is not None:
        raw = qk_LJE.clone()
        q, k = qk_LJE.split((heads, groups), 1)
        q.mul_(_rstd(q, parts.eps[0])).mul_(wq_norm)
        k.mul_(_rstd(k, parts.eps[0])).mul_(wk_norm)
    _rotate(qk_LJE, cos, sin)
    q, k, v = qkv_LJE.split((heads, groups, groups), 1)
    out_LHE = attend(q, k, v)
    mid = _linear(out_LHE.flatten(1), wo, bo).add_(x)
    rstd_mid = _rstd(mid, parts.eps[2])
    normed = _normed(mid, rstd_mid, w_mid)
    gate, up = _linear(normed, w_gate), _linear(normed, w_up)
    y = torch.addmm(mid, torch.nn.functional.silu(gate).mul_(up), w_down.T)
    return y, [rstd_in, qkv_LJE, raw, out_LHE, mid, rstd_mid, gate, up]


def _back(
    dy: Tensor, x: Tensor, cos: Tensor, sin: Tensor, lse: Tensor, kept: Sequence[Tensor | None],
    weights: Sequence[Tensor | None], layout: Layout, parts: Parts,
) -> tuple[Tensor, list[Tensor | None]]:  # fmt: skip
    """Gradients of the input and of the weights, in their order."""
    wq, bq, wk, bk, wv, bv, wo, bo, w_gate, w_up, w_down, wq_norm, wk_norm, w_in, w_mid = weights
    rstd_in, qkv_LJE, raw, out_LHE, mid, rstd_mid, gate, up = kept
    heads, groups = parts.heads, parts.groups

    # the MLP: silu' = s + silu (1 - s), with s the sigmoid and silu = gate * s
    s = gate.sigmoid()
    silu = gate * s
    dw_down = dy.T @ (silu * up)
    d_act = dy @ w_down
    d_up = d_act * silu
    d_gate = s.addcmul_(s, silu, value=-1).add_(silu).mul_(up).mul_(d_act)
    normed = _normed(mid, rstd_mid, w_mid)
    dw_gate, dw_up = d_gate.T @ normed, d_up.T @ normed
    d_mid, dw_mid = _norm_back((d_gate @ w_gate).addmm_(d_up, w_up), mid, rstd_mid, w_mid)
    d_mid += dy

    # the attention
    flat = out_LHE.flatten(1)
    dwo, dbo = d_mid.T @ flat, _bias_back(d_mid, bo)
    q, k, v = qkv_LJE.split((heads, groups, groups), 1)
    d_out = (d_mid @ wo).view_as(out_LHE)
    dqkv_LJE = torch.zeros_like(qkv_LJE)
    dq, dk, dv = dqkv_LJE.split((heads, groups, groups), 1)
    attend_back(layout, d_out, q, k, v, out_LHE, lse, parts.scale, (dq, dk, dv))
    _rotate(dqkv_LJE[:, : heads + groups], cos, sin, -1)
    dwq_norm = dwk_norm = None
    if raw is not None:
        raw_q, raw_k = raw.split((heads, groups), 1)
        dwq_norm = _head_norm_back(dq, raw_q, parts.eps[0], wq_norm)
        dwk_norm = _head_norm_back(dk, raw_k, parts.eps[0], wk_norm)
    normed = _normed(x, rstd_in, w_in)
    d_flat, at, linear = dqkv_LJE.flatten(1), 0, []
    d_normed: Tensor | None = None
    for w, b in ((wq, bq), (wk, bk), (wv, bv)):
        part = d_flat[:, at : at + len(w)]
        linear += [part.T @ normed, _bias_back(part, b)]
        d_normed = part @ w if d_normed is None else d_normed.addmm_(part, w)
        at += len(w)
    dx, dw_in = _norm_back(d_normed, x, rstd_in, w_in)
    return dx.add_(d_mid), [
        *linear, dwo, dbo, dw_gate, dw_up, dw_down, dwq_norm, dwk_norm, dw_in, dw_mid
    ]


def _linear(x: Tensor, w: Tensor, b: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    return torch.mm(x, w.T, out=out) if b is None else torch.addmm(b, x, w.T, out=out)


def _bias_back(d: Tensor, b: Tensor | None) -> Tensor | None:
    return None if b is None else d.sum(0)


def _rstd(x: Tensor, eps: float) -> Tensor:
    """``[…,1]``: one over the root of the mean square of the last dimension."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.mul_(norm).mul_(1 / x.shape[-1]).add_(eps).rsqrt_()


def _normed(x: Tensor, rstd: Tensor, w: Tensor) -> Tensor:
    return (x * rstd).mul_(w)


def _norm_back(d: Tensor, x: Tensor, rstd: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the input and the weight of an RMS norm from ``[L,D]``; ``d`` is used up."""
    unit = x * rstd
    product = d * unit
    mean = (product @ w).mul_(1 / x.shape[-1])[:, None]
    return d.mul_(w).addcmul_(unit, mean, value=-1).mul_(rstd), product.sum(0)


def _head_norm_back(d: Tensor, x: Tensor, eps: float, w: Tensor) -> Tensor:
    """The gradient of the weight; ``d [L,heads,E]`` becomes that of the input."""
    unit = x * (rstd := _rstd(x, eps))
    product = d * unit
    mean = (product @ w).mul_(1 / x.shape[-1])[..., None]
    d.mul_(w).addcmul_(unit, mean, value=-1).mul_(rstd)
    return product.sum((0, 1))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, way: int = 1) -> None:
    """Turn ``[L,heads,E]`` in place, or back with ``way=-1``: its halves are the coordinates of pairs."""
    half = x.shape[-1] // 2
    turned = torch.cat([x[..., half:], x[..., :half]], -1)
    x.mul_(cos)
    x[..., :half].addcmul_(turned[..., :half], sin[..., :half], value=-way)
    x[..., half:].addcmul_(turned[..., half:], sin[..., half:], value=way)
