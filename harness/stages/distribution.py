"""Next-token distributions at some positions, and what several statistics of them share."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

#: Neighbours in the vocabulary among which the largest logit is found first.
NEIGHBOURS = 64


class Scratch:
    """Memory by name that is used again: each ``take`` overwrites what the name held."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, like_NV: Tensor) -> Tensor:
        """Uninitialised, as large as ``like_NV``."""
        held = self._held.get(name)
        if held is None or held.numel() < like_NV.numel():
            held = self._held[name] = like_NV.new_empty(like_NV.numel())
        return held[: like_NV.numel()].view(like_NV.shape)


class Distribution:
    """What is known at ``N`` positions; nothing here may be changed in place, but by :meth:`turned`.

    Attributes:
        logits_NV: fp32 or wider, divided by ``temperature``.
        target_N: ids of the tokens that follow.
        scratch: for a statistic's own steps; the names ``below``, ``e``, ``p`` and ``power`` are taken.
    """

    def __init__(
        self, logits_NV: Tensor, target_N: Tensor, temperature: float = 1.0, scratch: Scratch | None = None,
        known: tuple[Tensor, Tensor] | None = None,
    ) -> None:  # fmt: skip
        """``known``: :attr:`top_N` and :attr:`total_N`, where they have been computed before."""
        if known is not None:
            self.top_N, self.total_N = known
        self.logits_NV, self.target_N, self.temperature = logits_NV, target_N, temperature
        self.scratch = scratch or Scratch()
        self._best: dict[int, tuple[Tensor, Tensor]] = {}

    @cached_property
    def top_N(self) -> Tensor:
        """The largest logit."""
        return self.logits_NV.amax(1)

    @cached_property
    def below_NV(self) -> Tensor:
        """Logits relative to the largest one."""
        return torch.sub(self.logits_NV, self.top_N[:, None], out=self.scratch.take("below", self.logits_NV))

    @cached_property
    def e_NV(self) -> Tensor:
        """The exponentials of ``below_NV``."""
        return torch.exp(self.below_NV, out=self.scratch.take("e", self.logits_NV))

    @cached_property
    def p_NV(self) -> Tensor:
        """Probabilities, by the steps of :mod:`harness.model.log_prob`: its gradients to the bit."""
        p_NV = self.scratch.take("p", self.logits_NV)
        return torch.add(self.below_NV, self._shift_N1, out=p_NV).exp_()

    @property
    def _shift_N1(self) -> Tensor:
        return (self.top_N - (self.top_N + self.total_N.log()))[:, None]

    @cached_property
    def total_N(self) -> Tensor:
        """The sum of ``e_NV``."""
        return self.e_NV.sum(1)

    @cached_property
    def chosen_N(self) -> Tensor:
        """``below_NV`` of the token that follows."""
        return self.below_NV.gather(1, self.target_N[:, None]).squeeze(1)

    @cached_property
    def entropy_N(self) -> Tensor:
        """Nats."""
        return self.total_N.log() - torch.linalg.vecdot(self.e_NV, self.below_NV) / self.total_N

    def power_NV(self, scale: float) -> Tensor:
        """``e_NV`` to the power ``scale``; the next call overwrites it."""
        if scale == 1:
            return self.e_NV
        out = self.scratch.take("power", self.logits_NV)
        if scale == 2:
            return torch.mul(self.e_NV, self.e_NV, out=out)
        if scale == 0.5:  # half the time of an exponential
            return torch.sqrt(self.e_NV, out=out)
        return torch.mul(self.below_NV, scale, out=out).exp_()

    def power_sum_N(self, scale: float) -> Tensor:
        """The sum of ``power_NV``."""
        if scale == 1:
            return self.total_N
        if scale == 2:
            return torch.linalg.vector_norm(self.e_NV, dim=1).square()
        return self.power_NV(scale).sum(1)

    def turned(self, scale: float) -> tuple[Tensor, Tensor]:
        """``[N,V]`` and their sums: :meth:`power_NV`, of scale 1 the probabilities, in place of the logits.

        Nothing can be asked afterwards.
        """
        total_N, shift_N1 = self.total_N, self._shift_N1
        below_NV = self.logits_NV.sub_(self.top_N[:, None])
        if scale == 1:
            return below_NV.add_(shift_N1).exp_(), torch.ones_like(total_N)
        if scale == 2:
            sum_N = torch.linalg.vector_norm(below_NV.exp_(), dim=1).square()
            return below_NV.mul_(below_NV), sum_N
        power_NV = below_NV.mul_(scale).exp_()
        return power_NV, power_NV.sum(1)

    def best(self, size: int) -> tuple[Tensor, Tensor]:
        """``[N,K]`` largest logits in falling order and their tokens; all where there are fewer."""
        if size not in self._best:
            self._best[size] = best(self.logits_NV, size)
        return self._best[size]


def best(value_NV: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """``topk`` of the last dimension; of a large vocabulary it looks only where large values stand.

    As many sets of neighbours as values are wanted hold them all: those with the largest of their values.
    """
    rows, vocab = value_NV.shape
    sets = vocab // NEIGHBOURS
    if 4 * size > sets:
        values, ids = value_NV.topk(min(size, vocab), 1)
        return values, ids
    whole = sets * NEIGHBOURS
    sets_NGW = value_NV[:, :whole].unflatten(1, (sets, NEIGHBOURS))
    set_NK = sets_NGW.amax(2).topk(size, 1, sorted=False).indices
    inside_NX = sets_NGW.gather(1, set_NK[:, :, None].expand(-1, -1, NEIGHBOURS)).flatten(1)
    id_NX = (set_NK[:, :, None] * NEIGHBOURS + torch.arange(NEIGHBOURS, device=set_NK.device)).flatten(1)
    if whole < vocab:
        rest = torch.arange(whole, vocab, device=set_NK.device).expand(rows, -1)
        inside_NX, id_NX = torch.cat([inside_NX, value_NV[:, whole:]], 1), torch.cat([id_NX, rest], 1)
    values, at = inside_NX.topk(size, 1)
    return values, id_NX.gather(1, at)
