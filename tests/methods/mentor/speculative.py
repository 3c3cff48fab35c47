"""How the official code draws from the mixture: the policy proposes, and a rejected token is drawn again.

The built-in sampler draws from the mixture itself; a test shows that this is the same distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor


def accepted(own_NV: Tensor, mixed_NV: Tensor) -> Tensor:
    """Probability that a proposed token is taken: min(1, mixture / policy)."""
    return (mixed_NV / own_NV).clamp(max=1.0)


def resampled(own_NV: Tensor, mixed_NV: Tensor) -> Tensor:
    """Distribution of the token that stands for a rejected one: what the mixture has more than the policy."""
    more_NV = (mixed_NV - own_NV).clamp(min=torch.finfo(own_NV.dtype).tiny)
    return more_NV / more_NV.sum(-1, keepdim=True)
