"""Packed rows through a model whose layers are ours: embedding, positions, layers and the last norm.

What transformers does between them for every pass (masks that nobody reads, outputs that nobody asks for)
takes longer than a small model's products. Whether the model's own code does no more than this is found out
when it is loaded (:mod:`harness.model.agreement`); hooks and rows of another kind go its own way.

Shape letters: ``L`` tokens of the row, ``D`` hidden size, ``E`` of a head, ``P`` positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.model.head import by_hand
from harness.model.norms import eps_of, norm_back, normed, rstd_of

#: Modules that the text part may have.
_MODULES = {"embed_tokens", "layers", "norm", "rotary_emb"}
#: Kinds of rotary positions whose angles hang on the position alone, not on how long a row is.
_STEADY = ("default", "linear", "llama3", "yarn")
#: Positions of the smallest table of angles.
_POSITIONS = 128


class Angles:
    """Cosines and sines by position, made by the model's own code; more of them as rows get longer."""

    def __init__(self) -> None:
        self._cos, self._sin = torch.empty(0), torch.empty(0)

    @torch.no_grad()
    def at(self, decoder: Any, position_1L: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """``[1,L,E]`` each, of ``like``'s type."""
        most = int(position_1L.max())
        if most >= len(self._cos) or self._cos.dtype != like.dtype:
            count = max(_POSITIONS, 1 << most.bit_length())
            self._cos, self._sin = (
                x[0] for x in decoder.rotary_emb(like, torch.arange(count, device=like.device)[None])
            )
        at = position_1L[0]
        return self._cos.index_select(0, at)[None], self._sin.index_select(0, at)[None]


def go_around(model: Any) -> bool:
    """Let packed rows of ``model`` pass here, where it has no other parts; whether it can."""
    decoder = model.base_model
    children = dict(decoder.named_children())
    if (
        decoder is model
        or set(children) != _MODULES
        or type(children["embed_tokens"]) is not torch.nn.Embedding
        or eps_of(children["norm"]) is None
        or getattr(children["rotary_emb"], "rope_type", None) not in _STEADY
    ):
        return False
    weight = children["embed_tokens"].weight
    cos, _ = Angles().at(decoder, torch.zeros(1, 1, dtype=torch.long, device=weight.device), weight[None, :1])
    if any(cos.shape[-1] != layer.self_attn.head_dim for layer in children["layers"]):
        return False
    model.packed_pass = partial(_pass, model, Angles())
    return True


def _pass(model: Any, angles: Angles, inputs: Mapping[str, Any]) -> Tensor | None:
    """``[1,L,D]`` as the head is given it; None where the model's own code is to make it."""
    decoder = model.base_model
    embedding, norm = decoder.embed_tokens, decoder.norm
    if not by_hand(embedding.weight) or hooked(model) or hooked(decoder):
        return None
    x = embedding(inputs["input_ids"])
    rotary = angles.at(decoder, inputs["position_ids"], x)
    more = {name: inputs[name] for name in ("layout", "made_by") if name in inputs}
    for layer in decoder.layers:
        x = layer(x, position_embeddings=rotary, **more)
    if hooked(norm) or x.dtype != torch.float32:  # its own code is in fp32 whatever the type
        return norm(x)  # type: ignore[no-any-return]
    return _Norm.apply(x, norm.weight, eps_of(norm))  # type: ignore[no-any-return]


def hooked(module: Any) -> bool:
    """Whether somebody listens to the module's passes, or makes them in its place."""
    listened = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    return bool(listened) or "forward" in vars(module)


class _Norm(torch.autograd.Function):
    """RMS norm ``[...,D]``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rstd = rstd_of(x, eps)
        ctx.save_for_backward(x, rstd, weight)
        return normed(x, rstd, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, rstd, weight = ctx.saved_tensors
        dx, scale = norm_back(grads[0].clone(), x * rstd, rstd, weight)
        return dx, scale.flatten(0, -2).sum(0), None
