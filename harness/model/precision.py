"""Passes in a shorter type than the weights that are trained.

Sharded, FSDP2's mixed precision does it: shards stay fp32, what is gathered for a pass is cast, gradients are
summed in fp32. In one process :class:`Masters` does the same: the network holds the cast weights, and the
optimiser's fp32 ones stand beside it. Either way a pass sees a network of bf16 parameters and fp32 buffers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Masters:
    """The fp32 parameters behind a model whose own parameters are cast for its passes.

    A gradient moves to its master as soon as it is complete, so micro-batches are added up in fp32 and no
    gradient is held twice.
    """

    def __init__(self, model: nn.Module, compute: torch.dtype) -> None:
        self._of: dict[int, nn.Parameter] = {}
        self._pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
        for parameter in model.parameters():  # tied ones come once
            master = nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)
            parameter.data = parameter.data.to(compute)
            self._of[id(parameter)] = master
            self._pairs.append((parameter, master))
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(self._hand_over)

    def _hand_over(self, parameter: Tensor) -> None:
        master, gradient = self._of[id(parameter)], parameter.grad
        if gradient is None:
            return
        if master.grad is None:
            master.grad = gradient.to(master.dtype)
        else:
            master.grad += gradient
        parameter.grad = None

    def trainable(self) -> list[nn.Parameter]:
        """What the optimiser steps on."""
        return [master for _, master in self._pairs if master.requires_grad]

    @torch.no_grad()
    def cast(self) -> None:
        """Give the network the masters' values, after a step of the optimiser."""
        for parameter, master in self._pairs:
            parameter.copy_(master)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While open, the network's parameters are the masters' own values, for passes in their type."""
        cast = [parameter.data for parameter, _ in self._pairs]
        for parameter, master in self._pairs:
            parameter.data = master.data
        try:
            yield
        finally:
            for (parameter, _), value in zip(self._pairs, cast, strict=True):
                parameter.data = value

    def state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """A ``state_dict(keep_vars=True)`` of the network with the masters in place of the cast values."""
        return {name: self._of.get(id(value), value) for name, value in state.items()}

    @torch.no_grad()
    def load(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Set masters and network to ``weights``."""
        for name, parameter in model.named_parameters():
            self._of[id(parameter)].copy_(weights[name])
        model.load_state_dict(weights)
