"""How the backward pass of a layer of ours makes gradients: of all rows together, or of each by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from harness.model.attention import Layout


@dataclass(frozen=True)
class Each:
    """A gradient is every row's own, and a forward pass takes the tokens that rows have in common once.

    Shape letters: ``L`` tokens of the rows one behind the other, ``U`` of them that differ, ``N`` whose
    output is read.

    Attributes:
        layout: of the tokens that differ.
        first_U: a place of each of them in the rows.
        of_L: which of them each token of a row is.
        read_N: the tokens whose output something reads; None for all.
    """

    layout: Layout
    first_U: Tensor
    of_L: Tensor
    read_N: Tensor | None = None

    @classmethod
    def of(cls, layout: Layout, of_L: Tensor) -> Each:
        first_U = of_L.new_empty(len(layout.prompt_L))
        return cls(layout, first_U.index_copy_(0, of_L, torch.arange(len(of_L), device=of_L.device)), of_L)

    def read(self, value: Tensor) -> Tensor:
        """``[N,...]`` of ``[L,...]``."""
        return value if self.read_N is None else value[self.read_N]

    def spread(self, value: Tensor) -> Tensor:
        """``[L,...]`` of ``[N,...]``, 0 elsewhere."""
        if self.read_N is None:
            return value
        return value.new_zeros(len(self.of_L), *value.shape[1:]).index_copy_(0, self.read_N, value)


class Made(NamedTuple):
    """How the gradients of a layer's weights are made, or None in place of them.

    Attributes:
        linear: from its name, the gradient ``[L,Y]`` of what it gives, and what it is given, ``[L,X]``.
        bias: from the gradient ``[L,Y]`` of what its layer gives.
        norm: from its name and each token's gradient of its weight, ``[L,...,E]``.
        each: where a gradient is every row's own; ``L`` is ``N`` then behind the layer's attention.
    """

    linear: Callable[[str, Tensor, Tensor], Tensor | None]
    bias: Callable[[Tensor], Tensor | None]
    norm: Callable[[str, Tensor], Tensor | None]
    each: Each | None = None


MADE = Made(
    lambda _, grad, given: grad.T @ given,
    lambda grad: grad.sum(0),
    lambda _, grad: grad.sum(tuple(range(grad.ndim - 1))),
)
