"""RMS norm over the last dimension, and its gradient by hand, in few steps over memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def eps_of(norm: Any) -> float | None:
    """The number that an RMS norm adds to the mean square; None of anything else."""
    if "RMSNorm" not in type(norm).__name__:
        return None
    for name in ("variance_epsilon", "eps"):
        if isinstance(value := getattr(norm, name, None), float):
            return value
    return None


def rstd_of(x: Tensor, eps: float) -> Tensor:
    """``[…,1]``: one over the root of the mean square of the last dimension."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.mul_(norm).mul_(1 / x.shape[-1]).add_(eps).rsqrt_()


def normed(x: Tensor, rstd: Tensor, w: Tensor) -> Tensor:
    """The norm's output."""
    return (x * rstd).mul_(w)


def norm_back(d: Tensor, unit: Tensor, rstd: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the input and, by token, of the weight; ``d`` is used up, ``unit`` is ``x * rstd``."""
    product = d * unit
    mean = (product @ w).mul_(1 / unit.shape[-1])[..., None]
    return d.mul_(w).addcmul_(unit, mean, value=-1).mul_(rstd), product
