"""Tokens of rows that stand one behind the other in a flat list, cut out for products within each row.

Shape letters: ``R`` rows by ``T`` tokens of the longest, ``L`` tokens of all; a layer is given ``X`` and
gives ``Y`` numbers.
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


class RowSquares:
    """``[R]``: squared norms of sums over each row's tokens, added up.

    Attributes:
        row_L: each token's row.
    """

    def __init__(self, rows: int, spans: Sequence[Spans], row_L: Tensor) -> None:
        self.row_L, self._spans = row_L, spans
        self.total_R = torch.zeros(rows, dtype=torch.float64, device=row_L.device)
        self._grams: dict[int, tuple[Tensor, Tensor]] = {}
        self._sums: dict[int, Tensor] = {}
        self._belongs_RL: Tensor | None = None

    def add(self, value: Tensor, rows: slice = slice(None)) -> None:
        """Sums over everything but rows."""
        self.total_R[rows] += value.flatten(1).sum(1)

    def vectors(self, value_LX: Tensor) -> None:
        """Of each row's sum of vectors, by a product, which is faster than adding at indices."""
        value_LX = wide(value_LX)
        if self._belongs_RL is None or self._belongs_RL.dtype != value_LX.dtype:
            row_R1 = torch.arange(len(self.total_R), device=self.row_L.device)[:, None]
            self._belongs_RL = (row_R1 == self.row_L).to(value_LX.dtype)
        self.add((self._belongs_RL @ value_LX).square())

    def products(self, given_LX: Tensor, grad_LY: Tensor) -> None:
        """Of each row's sum of outer products."""
        inputs, outputs = given_LX.shape[-1], grad_LY.shape[-1]
        for number, spans in enumerate(self._spans):
            if spans.at_RT.shape[1] * (inputs + outputs) > inputs * outputs:
                self.add((spans.kept(grad_LY).transpose(1, 2) @ spans.cut(given_LX)).square(), spans.rows)
                continue
            known = self._grams.get(number)
            if known is None or known[0] is not given_LX:  # layers next to each other are given the same
                known = self._grams[number] = given_LX, spans.gram(given_LX)
            products = gram(spans.cut(grad_LY))
            if number in self._sums:
                self._sums[number].addcmul_(products, known[1])
            else:
                self._sums[number] = products.mul_(known[1])

    def finished(self) -> Tensor:
        for number, value in self._sums.items():
            self.add(value, self._spans[number].rows)
        return self.total_R


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
