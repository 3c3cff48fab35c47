"""An LM head's products with hidden states, and what a model makes of them before the softmax."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: Values of these types are multiplied into sums of fp32.
HALF = (torch.float16, torch.bfloat16)


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
    if hidden_ND.dtype not in HALF:
        return torch.nn.functional.linear(hidden_ND, weight_VD, bias_V)
    if hidden_ND.is_cuda and not torch.is_grad_enabled():
        logits = torch.mm(hidden_ND, weight_VD.T, out_dtype=torch.float32)
    else:
        logits = torch.nn.functional.linear(hidden_ND.float(), weight_VD.float())
    return logits if bias_V is None else logits + bias_V.float()
