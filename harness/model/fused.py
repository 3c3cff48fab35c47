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

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.model.attention import Layout, attend_back, attend_out
from harness.model.own import layers_of

_LINEAR = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
_HEAD_NORMS = ("self_attn.q_norm", "self_attn.k_norm")
_NORMS = ("input_layernorm", "post_attention_layernorm")
#: What a layer may have; the order in which :class:`_Layer` is given them, None where it has none.
WEIGHTS = (
    *(f"{name}.{kind}" for name in _LINEAR for kind in ("weight", "bias")),
    *(f"{name}.weight" for name in (*_MLP, *_HEAD_NORMS, *_NORMS)),
)


class _Weights(NamedTuple):
    """A layer's weights, in the order of :data:`WEIGHTS`."""

    q: Tensor
    q_bias: Tensor | None
    k: Tensor
    k_bias: Tensor | None
    v: Tensor
    v_bias: Tensor | None
    o: Tensor
    o_bias: Tensor | None
    gate: Tensor
    up: Tensor
    down: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None
    norm_in: Tensor
    norm_mid: Tensor

    def qkv(self) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """Columns of queries, keys and values side by side, with what makes them."""
        at = 0
        for weight, bias in ((self.q, self.q_bias), (self.k, self.k_bias), (self.v, self.v_bias)):
            yield slice(at, at + len(weight)), weight, bias
            at += len(weight)


class _Kept(NamedTuple):
    """What a layer's gradient takes besides its input and the log-sums.

    Attributes:
        qkv_LJE: queries and keys turned by their positions, and values.
        raw: queries and keys before their norms, where they have some.
        out_LHE: of the attention.
        mid_LD: input of the MLP's norm.
    """

    rstd_in: Tensor
    qkv_LJE: Tensor
    raw: Tensor | None
    out_LHE: Tensor
    mid_LD: Tensor
    rstd_mid: Tensor
    gate_LI: Tensor
    up_LI: Tensor


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

    @property
    def split(self) -> tuple[int, int, int]:
        """Heads of queries, keys and values."""
        return self.heads, self.groups, self.groups


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
        or type(act).__name__ not in ("SiLU", "SiLUActivation")
        or any(_eps(norm) is None for norm in norms[2:])
        or getattr(modules.get("self_attn"), "sliding_window", None) is not None
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
    parts = [p for layer in layers if (p := parts_of(layer)) is not None]
    if not layers or len(parts) < len(layers):
        return False
    for layer, p in zip(layers, parts, strict=True):
        layer.forward = partial(_forward, layer, p, layer.forward)
    return True


def unfuse(model: Any) -> None:
    """Undo :func:`fuse`."""
    for layer in layers_of(model):
        del layer.forward


def is_fused(layer: Any) -> bool:
    """Whether :func:`fuse` has the last word in it."""
    return getattr(vars(layer).get("forward"), "func", None) is _forward


@contextmanager
def unfused(model: Any) -> Iterator[None]:
    """While open, every layer computes with the model's own code, which hooks can listen to."""
    held = {layer: layer.forward for layer in layers_of(model) if is_fused(layer)}
    for layer in held:
        del layer.forward
    try:
        yield
    finally:
        for layer, forward in held.items():
            layer.forward = forward


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

    return _passed(x_LD, cos_L1E, sin_L1E, parts, _Weights(*weights), attend)[0][None]


def _at(layer: Any, name: str) -> Any:
    for step in name.split("."):
        layer = getattr(layer, step, None)
    return layer


class _Layer(torch.autograd.Function):
    """``[L,D]`` of a layer from ``[L,D]``, over a :class:`~harness.model.attention.Layout`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, layout: Layout, parts: Parts, *weights: Any
    ) -> Tensor:
        lse: list[Tensor] = []

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            out, sums = attend_out(layout, q, k, v, parts.scale)
            lse.append(sums)
            return out

        y, kept = _passed(x, cos, sin, parts, _Weights(*weights), attend)
        ctx.save_for_backward(x, cos, sin, *lse, *kept, *weights)
        ctx.layout, ctx.parts = layout, parts
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, cos, sin, lse, *rest = ctx.saved_tensors
        kept, w = _Kept(*rest[: len(_Kept._fields)]), _Weights(*rest[len(_Kept._fields) :])
        d_mid, mlp = _mlp_back(grads[0], kept, w)

        def attend_back_to(d_out: Tensor, dqkv: Sequence[Tensor]) -> None:
            qkv = kept.qkv_LJE.split(ctx.parts.split, 1)
            attend_back(ctx.layout, d_out, qkv, kept.out_LHE, lse, ctx.parts.scale, dqkv)

        dx, attention = _attention_back(d_mid, x, cos, sin, kept, w, ctx.parts, attend_back_to)
        d: dict[str, Any] = {**mlp, **attention}
        return dx, None, None, None, None, *_Weights(**d)


def _passed(
    x: Tensor, cos: Tensor, sin: Tensor, parts: Parts, w: _Weights, attend: Callable[..., Tensor]
) -> tuple[Tensor, _Kept]:
    """The layer's output, and what its gradient takes."""
    rstd_in = _rstd(x, parts.eps[1])
    normed = _normed(x, rstd_in, w.norm_in)
    qkv_LJE = x.new_empty(len(x), sum(parts.split), len(w.q) // parts.heads)
    flat = qkv_LJE.flatten(1)
    for columns, weight, bias in w.qkv():
        _linear(normed, weight, bias, flat[:, columns])
    qk_LJE, raw = qkv_LJE[:, : parts.heads + parts.groups], None
    if w.q_norm is not None and w.k_norm is not None:
        raw = qk_LJE.clone()
        q, k = qk_LJE.split(parts.split[:2], 1)
        q.mul_(_rstd(q, parts.eps[0])).mul_(w.q_norm)
        k.mul_(_rstd(k, parts.eps[0])).mul_(w.k_norm)
    _rotate(qk_LJE, cos, sin)
    out_LHE = attend(*qkv_LJE.split(parts.split, 1))
    mid = _linear(out_LHE.flatten(1), w.o, w.o_bias).add_(x)
    rstd_mid = _rstd(mid, parts.eps[2])
    normed = _normed(mid, rstd_mid, w.norm_mid)
    gate, up = _linear(normed, w.gate), _linear(normed, w.up)
    y = torch.addmm(mid, torch.nn.functional.silu(gate).mul_(up), w.down.T)
    return y, _Kept(rstd_in, qkv_LJE, raw, out_LHE, mid, rstd_mid, gate, up)


def _mlp_back(dy: Tensor, kept: _Kept, w: _Weights) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradient of ``kept.mid_LD``, and those of the weights behind it by name."""
    sigmoid = kept.gate_LI.sigmoid()
    silu = kept.gate_LI * sigmoid
    d = {"down": dy.T @ (silu * kept.up_LI)}
    d_act = dy @ w.down
    d_up = d_act * silu
    # with s the sigmoid, silu = gate * s and its slope is s + silu (1 - s)
    d_gate = sigmoid.addcmul_(sigmoid, silu, value=-1).add_(silu).mul_(kept.up_LI).mul_(d_act)
    normed = _normed(kept.mid_LD, kept.rstd_mid, w.norm_mid)
    d["gate"], d["up"] = d_gate.T @ normed, d_up.T @ normed
    d_normed = (d_gate @ w.gate).addmm_(d_up, w.up)
    d_mid, d["norm_mid"] = _norm_back(d_normed, kept.mid_LD, kept.rstd_mid, w.norm_mid)
    return d_mid.add_(dy), d


def _attention_back(
    d_mid: Tensor, x: Tensor, cos: Tensor, sin: Tensor, kept: _Kept, w: _Weights, parts: Parts,
    attend_back_to: Callable[[Tensor, Sequence[Tensor]], None],
) -> tuple[Tensor, dict[str, Tensor | None]]:  # fmt: skip
    """The gradient of the layer's input, and those of the weights before ``kept.mid_LD`` by name."""
    d: dict[str, Tensor | None] = {
        "o": d_mid.T @ kept.out_LHE.flatten(1), "o_bias": _bias_back(d_mid, w.o_bias),
        "q_norm": None, "k_norm": None,
    }  # fmt: skip
    dqkv_LJE = torch.zeros_like(kept.qkv_LJE)
    dq, dk, dv = dqkv_LJE.split(parts.split, 1)
    attend_back_to((d_mid @ w.o).view_as(kept.out_LHE), (dq, dk, dv))
    _rotate(dqkv_LJE[:, : parts.heads + parts.groups], cos, sin, -1)
    if kept.raw is not None and w.q_norm is not None and w.k_norm is not None:
        raw_q, raw_k = kept.raw.split(parts.split[:2], 1)
        d["q_norm"] = _head_norm_back(dq, raw_q, parts.eps[0], w.q_norm)
        d["k_norm"] = _head_norm_back(dk, raw_k, parts.eps[0], w.k_norm)
    normed = _normed(x, kept.rstd_in, w.norm_in)
    d_normed, flat = torch.zeros_like(x), dqkv_LJE.flatten(1)
    for name, (columns, weight, bias) in zip("qkv", w.qkv(), strict=True):
        d[name], d[f"{name}_bias"] = flat[:, columns].T @ normed, _bias_back(flat[:, columns], bias)
        d_normed.addmm_(flat[:, columns], weight)
    dx, d["norm_in"] = _norm_back(d_normed, x, kept.rstd_in, w.norm_in)
    return dx.add_(d_mid), d


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
