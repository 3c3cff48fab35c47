"""States of components as values that compare: tensors as their type and their numbers."""

from __future__ import annotations

from typing import Any

import torch


def plainly(state: Any) -> Any:
    """``state`` with every tensor as ``[dtype, numbers]``; anything else is left as it is."""
    if isinstance(state, torch.Tensor):
        return [str(state.dtype), state.tolist()]
    if isinstance(state, dict):
        return {k: plainly(v) for k, v in state.items()}
    return [plainly(v) for v in state] if isinstance(state, list) else state
