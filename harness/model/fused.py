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

from harness.model.around import go_around, hooked
from harness.model.attention import Layout, attend_back, attend_out
from harness.model.head import by_hand
from harness.model.made import MADE, Made
from harness.model.norms import eps_of, norm_back, normed, rstd_of
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

    def before_attention(self, at: Tensor) -> _Kept:
        """What is kept up to there, at other places."""
        moved = [_at(value, at) for value in self[:4]]
        return self._replace(**dict(zip(self._fields, moved, strict=False)))


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
        or any(eps_of(norm) is None for norm in norms[2:])
        or getattr(modules.get("self_attn"), "sliding_window", None) is not None
        or any(hooked(module) for name, module in modules.items() if name)
    ):
        return None
    q, k, v = (module.out_features // size for module in linear[:3])  # type: ignore[union-attr]
    head_norms = [norm for norm in norms[:2] if norm is not None]
    if k != v or q % k or len(head_norms) == 1:
        return None
    if any(eps_of(norm) is None or norm.weight.shape != (size,) for norm in head_norms):
        return None
    eps = tuple(eps_of(norm) or 0.0 for norm in norms[1:])
    scale = float(getattr(modules["self_attn"], "scaling", size**-0.5))
    return Parts(q, k, scale, eps)  # type: ignore[arg-type]


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
        layer.forward = partial(_forward, layer, p, [_place(layer, n) for n in WEIGHTS], layer.forward)
    go_around(model)
    return True


def unfuse(model: Any) -> None:
    """Undo :func:`fuse`."""
    vars(model).pop("packed_pass", None)
    for layer in layers_of(model):
        del layer.forward


def is_fused(layer: Any) -> bool:
    """Whether :func:`fuse` has the last word in it."""
    return getattr(vars(layer).get("forward"), "func", None) is _forward


@contextmanager
def unfused(model: Any) -> Iterator[None]:
    """While open, every layer computes with the model's own code, which hooks can listen to."""
    held = {layer: layer.forward for layer in layers_of(model) if is_fused(layer)}
    around = vars(model).pop("packed_pass", None)
    for layer in held:
        del layer.forward
    try:
        yield
    finally:
        if around is not None:
            model.packed_pass = around
        for layer, forward in held.items():
            layer.forward = forward


def _forward(
    layer: Any,
    parts: Parts,
    places: Sequence[tuple[dict[str, Any] | None, str]],
    own: Callable[..., Any],
    hidden_states: Tensor,
    *arguments: Any,
    layout: Any = None,
    made_by: Callable[[Any], Made] | None = None,
    **more: Any,
) -> Any:
    """A layer's forward pass: of a packed row in one step, else the layer's own.

    ``made_by`` says of a layer how the gradients of its weights are made in the one step. ``places`` are
    where the weights stand: looking for them in every pass takes longer than a small product.
    """
    rotary = more.get("position_embeddings")
    if layout is None:
        return own(hidden_states, *arguments, **more)
    if rotary is None or rotary[0].shape[-1] != layer.self_attn.head_dim or not by_hand(hidden_states):
        return own(hidden_states, *arguments, layout=layout, **more)
    x_LD, cos_L1E, sin_L1E = hidden_states[0], *(value[0][:, None] for value in rotary)
    weights: list[Any] = [None if place is None else place[key] for place, key in places]
    if torch.is_grad_enabled():
        made = MADE if made_by is None else made_by(layer)
        return _Layer.apply(x_LD, cos_L1E, sin_L1E, layout, parts, made, *weights)[None]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return layout.attend(layer.self_attn, q, k, v, parts.scale)  # type: ignore[no-any-return]

    return _passed(x_LD, cos_L1E, sin_L1E, parts, _Weights(*weights), attend)[0][None]


def _place(layer: Any, name: str) -> tuple[dict[str, Any] | None, str]:
    """The module's own table in which a weight stands under its name; None where there is no such module.

    Whoever puts another tensor in a weight's place (sharding does) puts it into this table.
    """
    *path, key = name.split(".")
    for step in path:
        layer = getattr(layer, step, None)
    return (None if layer is None else layer._parameters), key


class _Layer(torch.autograd.Function):
    """``[L,D]`` of a layer from ``[L,D]``, over a :class:`~harness.model.attention.Layout`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, layout: Layout, parts: Parts, made: Made,
        *weights: Any,
    ) -> Tensor:  # fmt: skip
        lse: list[Tensor] = []
        each = made.each

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            out, sums = attend_out(each.layout if each else layout, q, k, v, parts.scale)
            lse.append(sums)
            return out

        first_U = None if each is None else each.first_U
        once = [_at(v, first_U) for v in (x, cos, sin)]
        y, kept = _passed(once[0], once[1], once[2], parts, _Weights(*weights), attend)
        ctx.save_for_backward(x, cos, sin, *lse, *kept, *weights)
        ctx.layout, ctx.parts, ctx.made = layout, parts, made
        return y if each is None else y[each.of_L]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, cos, sin, lse, *rest = ctx.saved_tensors
        kept, w = _Kept(*rest[: len(_Kept._fields)]), _Weights(*rest[len(_Kept._fields) :])
        made, each = ctx.made, ctx.made.each
        if each is None:
            d_mid, d_out, mlp = _mlp_back(grads[0], kept, w, made)
        else:
            d_mid, d_out, mlp = _mlp_back(each.read(grads[0]), kept, w, made, each.read(each.of_L))
            d_mid, d_out = each.spread(d_mid), each.spread(d_out)
            lse, kept = lse[each.of_L], kept.before_attention(each.of_L)

        def attend_back_to(d_out: Tensor, dqkv: Sequence[Tensor]) -> None:
            qkv = kept.qkv_LJE.split(ctx.parts.split, 1)
            attend_back(ctx.layout, d_out, qkv, kept.out_LHE, lse, ctx.parts.scale, dqkv)

        dx, attention = _attention_back(d_out, x, cos, sin, kept, w, ctx.parts, made, attend_back_to)
        d: dict[str, Any] = {**mlp, **attention}
        return dx.add_(d_mid), None, None, None, None, None, *_Weights(**d)


def _at(value: Any, index: Tensor | None) -> Any:
    return value if value is None or index is None else value.index_select(0, index)


def _passed(
    x: Tensor, cos: Tensor, sin: Tensor, parts: Parts, w: _Weights, attend: Callable[..., Tensor]
) -> tuple[Tensor, _Kept]:
    """The layer's output, and what its gradient takes."""
    rstd_in = rstd_of(x, parts.eps[1])
    given = normed(x, rstd_in, w.norm_in)
    qkv_LJE = x.new_empty(len(x), sum(parts.split), len(w.q) // parts.heads)
    flat = qkv_LJE.flatten(1)
    for columns, weight, bias in w.qkv():
        _linear(given, weight, bias, flat[:, columns])
    qk_LJE, raw = qkv_LJE[:, : parts.heads + parts.groups], None
    if w.q_norm is not None and w.k_norm is not None:
        raw = qk_LJE.clone()
        q, k = qk_LJE.split(parts.split[:2], 1)
        q.mul_(rstd_of(q, parts.eps[0])).mul_(w.q_norm)
        k.mul_(rstd_of(k, parts.eps[0])).mul_(w.k_norm)
    _rotate(qk_LJE, cos, sin)
    out_LHE = attend(*qkv_LJE.split(parts.split, 1))
    mid = _linear(out_LHE.flatten(1), w.o, w.o_bias).add_(x)
    rstd_mid = rstd_of(mid, parts.eps[2])
    given = normed(mid, rstd_mid, w.norm_mid)
    gate, up = _linear(given, w.gate), _linear(given, w.up)
    y = torch.addmm(mid, torch.nn.functional.silu(gate).mul_(up), w.down.T)
    return y, _Kept(rstd_in, qkv_LJE, raw, out_LHE, mid, rstd_mid, gate, up)


def _mlp_back(
    dy: Tensor, kept: _Kept, w: _Weights, made: Made, at: Tensor | None = None
) -> tuple[Tensor, Tensor, dict[str, Tensor | None]]:
    """Gradients of ``kept.mid_LD`` and of the attention's output, and of the weights behind it by name.

    Args:
        at: the token of ``kept`` that each of ``dy`` is; None where they are the same.
    """
    sigmoid = kept.gate_LI.sigmoid()
    silu = kept.gate_LI * sigmoid
    d = {"down": made.linear("mlp.down_proj", dy, _at(silu * kept.up_LI, at))}
    d_act = dy @ w.down
    d_up = d_act * _at(silu, at)
    # with s the sigmoid, silu = gate * s and its slope is s + silu (1 - s)
    slope = sigmoid.addcmul_(sigmoid, silu, value=-1).add_(silu).mul_(kept.up_LI)
    d_gate = _at(slope, at).mul_(d_act)
    mid, rstd, out = _at(kept.mid_LD, at), _at(kept.rstd_mid, at), _at(kept.out_LHE, at)
    unit = mid * rstd
    given = unit * w.norm_mid
    d["gate"] = made.linear("mlp.gate_proj", d_gate, given)
    d["up"] = made.linear("mlp.up_proj", d_up, given)
    d_given = (d_gate @ w.gate).addmm_(d_up, w.up)
    d_mid, scale = norm_back(d_given, unit, rstd, w.norm_mid)
    d["norm_mid"] = made.norm("post_attention_layernorm", scale)
    d_mid.add_(dy)
    d["o"] = made.linear("self_attn.o_proj", d_mid, out.flatten(1))
    d["o_bias"] = None if w.o_bias is None else made.bias(d_mid)
    return d_mid, (d_mid @ w.o).view_as(out), d


def _attention_back(
    d_out: Tensor, x: Tensor, cos: Tensor, sin: Tensor, kept: _Kept, w: _Weights, parts: Parts, made: Made,
    attend_back_to: Callable[[Tensor, Sequence[Tensor]], None],
) -> tuple[Tensor, dict[str, Tensor | None]]:  # fmt: skip
    """The gradient of the layer's input by way of the attention's output, and of the weights before it."""
    d: dict[str, Tensor | None] = {"q_norm": None, "k_norm": None}
    dqkv_LJE = torch.zeros_like(kept.qkv_LJE)
    dq, dk, dv = dqkv_LJE.split(parts.split, 1)
    attend_back_to(d_out, (dq, dk, dv))
    _rotate(dqkv_LJE[:, : parts.heads + parts.groups], cos, sin, -1)
    if kept.raw is not None and w.q_norm is not None and w.k_norm is not None:
        raw = kept.raw.split(parts.split[:2], 1)
        for name, dx, x_LHE, weight in zip("qk", (dq, dk), raw, (w.q_norm, w.k_norm), strict=True):
            rstd = rstd_of(x_LHE, parts.eps[0])
            d[f"{name}_norm"] = made.norm(
                f"self_attn.{name}_norm", norm_back(dx, x_LHE * rstd, rstd, weight)[1]
            )
    unit, flat = x * kept.rstd_in, dqkv_LJE.flatten(1)
    given, d_given = unit * w.norm_in, torch.empty_like(x)
    for name, (columns, weight, bias) in zip("qkv", w.qkv(), strict=True):
        part = flat[:, columns]
        d[name] = made.linear(f"self_attn.{name}_proj", part, given)
        d[f"{name}_bias"] = None if bias is None else made.bias(part)
        d_given.addmm_(part, weight, beta=0.0 if name == "q" else 1.0)
    dx, scale = norm_back(d_given, unit, kept.rstd_in, w.norm_in)
    d["norm_in"] = made.norm("input_layernorm", scale)
    return dx, d


def _linear(x: Tensor, w: Tensor, b: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    return torch.mm(x, w.T, out=out) if b is None else torch.addmm(b, x, w.T, out=out)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, way: int = 1) -> None:
    """Turn ``[L,heads,E]`` in place, or back with ``way=-1``: its halves are the coordinates of pairs."""
    half = x.shape[-1] // 2
    turned = torch.cat([x[..., half:], x[..., :half]], -1)
    x.mul_(cos)
    x[..., :half].addcmul_(turned[..., :half], sin[..., :half], value=-way)
    x[..., half:].addcmul_(turned[..., half:], sin[..., half:], value=way)
