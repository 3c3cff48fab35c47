"""Tokens of rows that stand one behind the other in a flat list, cut out for products within each row.

Shape letters: ``R`` rows by ``T`` tokens of the longest, ``L`` tokens of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

#: Rows are padded to the longest where they have at least this share of its tokens.
ALIKE = 0.75


@dataclass(frozen=True)
class Spans:
    """Where in a flat list of tokens those of some rows are, next to each other.

    Attributes:
        rows: which rows of the pass.
        at_RT: indices; any where a row has no token.
        there_RT: where it has one; None where all have as many.
    """

    rows: slice
    at_RT: Tensor
    there_RT: Tensor | None

    @classmethod
    def of(cls, lengths: Sequence[int], groups: Sequence[slice], device: torch.device) -> list[Spans]:
        length_B = torch.tensor(lengths)
        start_B = length_B.cumsum(0) - length_B
        found = []
        for rows in groups:
            length_R, at_T = length_B[rows], torch.arange(int(length_B[rows].max()))
            there_RT = at_T < length_R[:, None]
            at_RT = torch.where(there_RT, start_B[rows][:, None] + at_T, 0).to(device)
            found.append(cls(rows, at_RT, None if bool(there_RT.all()) else there_RT.to(device)))
        return found

    def cut(self, value: Tensor) -> Tensor:
        """``[R,T,X]`` of ``[L,X]`` in fp32 or wider, any token where there is none."""
        if self.there_RT is None:
            start = int(self.at_RT[0, 0])
            return wide(value[start : start + self.at_RT.numel()].view(*self.at_RT.shape, -1))
        return wide(value.index_select(0, self.at_RT.flatten()).view(*self.at_RT.shape, -1))

    def kept(self, value: Tensor) -> Tensor:
        """:meth:`cut`, 0 where there is no token."""
        cut = self.cut(value)
        return cut if self.there_RT is None else cut * self.there_RT[..., None]

    def gram(self, value: Tensor) -> Tensor:
        """``[R,T,T]`` products of a row's tokens, 0 where there is none."""
        products = gram(self.cut(value))
        return products if self.there_RT is None else products.mul_(self.both_RTT)

    @cached_property
    def both_RTT(self) -> Tensor:
        assert self.there_RT is not None
        return self.there_RT[:, :, None] & self.there_RT[:, None]


def groups_of(lengths: Sequence[int]) -> list[slice]:
    """Rows in order of their length, those together that are about equally long."""
    starts = [0]
    for row, length in enumerate(lengths):
        if lengths[starts[-1]] < ALIKE * length:
            starts.append(row)
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(lengths)], strict=True)]


def gram(value_RTX: Tensor, other_RSX: Tensor | None = None) -> Tensor:
    """``[R,T,S]`` products of a row's tokens."""
    return value_RTX @ (value_RTX if other_RSX is None else other_RSX).transpose(1, 2)


def wide(value: Tensor) -> Tensor:
    return value.to(torch.promote_types(value.dtype, torch.float32))
