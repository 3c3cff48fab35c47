"""An LM head's products with hidden states, and what a model makes of them before the softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Values of these types are multiplied into sums of fp32.
HALF = (torch.float16, torch.bfloat16)
#: Tokens of the vocabulary that are multiplied at a time where only the products are wanted.
_TILE = 1024


def by_hand(value: Tensor) -> bool:
    """Whether steps that are written here in a model's place are for such values: on a CPU, fp32 or fp64."""
    return value.device.type == "cpu" and value.dtype in (torch.float32, torch.float64)


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


class TiledHead:
    """A head's products without gradients, some tokens of the vocabulary at a time: equal sums, sooner.

    The weights are read where they are, so they may change; the memory of the products is used again.
    """

    def __init__(self, weight_VD: Tensor) -> None:
        self._tiles_DV = [weight.T for weight in weight_VD.split(_TILE)]
        self._into_NV = weight_VD.new_empty(0, len(weight_VD))
        self.dtype = weight_VD.dtype

    def __call__(self, hidden_ND: Tensor) -> Tensor:
        """``[N,V]``, written over by the next call."""
        rows = len(hidden_ND)
        if len(self._into_NV) < rows:
            self._into_NV = hidden_ND.new_empty(rows, self._into_NV.shape[1])
        out = self._into_NV[:rows]
        for weight, into in zip(self._tiles_DV, out.split(_TILE, 1), strict=True):
            torch.mm(hidden_ND, weight, out=into)
        return out


def tiled_head(head: Any) -> TiledHead | None:
    """``head`` in tiles where that is its whole computation: on a CPU, in fp32 or fp64, without a bias."""
    weight = head.weight
    if type(weight) not in (Tensor, torch.nn.Parameter) or getattr(head, "bias", None) is not None:
        return None
    return TiledHead(weight.detach()) if by_hand(weight) else None


def _products(hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:
    if hidden_ND.dtype not in HALF:
        return torch.nn.functional.linear(hidden_ND, weight_VD, bias_V)
    if hidden_ND.is_cuda and not torch.is_grad_enabled():
        logits = torch.mm(hidden_ND, weight_VD.T, out_dtype=torch.float32)
    else:
        logits = torch.nn.functional.linear(hidden_ND.float(), weight_VD.float())
    return logits if bias_V is None else logits + bias_V.float()
