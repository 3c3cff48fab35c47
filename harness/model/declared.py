"""Any declared statistics of every position, and their gradients, from one product with the head.

Statistics beyond log-prob and entropy read whole rows of logits. So the logits of some positions stand in
memory together, as many as the budget allows, written tile by tile as :mod:`harness.model.log_prob` does it;
then all statistics read them, few positions at a time, so that a CPU finds them in its cache. The last
positions' logits stay for the backward pass, which turns them into their gradient in place; the others' are
computed anew, once for all statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.model.head import HeadCurve
from harness.model.log_prob import CACHED, Gradients, Head, Tile, tile_cells, tiles
from harness.stages.distribution import Distribution, Scratch
from harness.stages.token_stats import TokenStat


class DeclaredStats(torch.autograd.Function):
    """``[N]`` for each of ``stats``.

    ``chunk`` is the number of positions whose logits may be held at once; ``keep`` says whether a backward
    pass follows.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        temperature: float,
        chunk: int,
        curve: HeadCurve,
        keep: bool,
        stats: Sequence[TokenStat],
    ) -> tuple[Tensor, ...]:
        head, scratch = Head(hidden, weight, bias, temperature, curve), Scratch()
        values = [hidden.new_empty(len(hidden), dtype=head.dtype) for _ in stats]
        known_2N = hidden.new_empty(2, len(hidden), dtype=head.dtype)
        logits, rows = _memory(head, chunk), slice(0)
        for rows in _pieces(len(hidden), chunk):
            part_NV = _write(head, rows, logits)
            for few in _few(part_NV):
                here = slice(rows.start + few.start, rows.start + few.stop)
                at = Distribution(part_NV[few], target[here], temperature, scratch)
                for stat, value in zip(stats, values, strict=True):
                    value[here] = stat.value(at)
                known_2N[0, here], known_2N[1, here] = at.top_N, at.total_N
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(hidden, weight, bias, target, known_2N)
        ctx.given = temperature, chunk, curve, stats
        ctx.kept = {rows.start: logits} if keep else {}
        return tuple(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, target, known_2N = ctx.saved_tensors
        temperature, chunk, curve, stats = ctx.given
        asked = [(stat, grad) for stat, grad in zip(stats, grads, strict=True) if grad is not None]
        if not asked:
            return (None,) * 9
        head, scratch = Head(hidden, weight, bias, temperature, curve), Scratch()
        sums = Gradients(head, bias, ctx.needs_input_grad)
        pieces = list(_pieces(len(hidden), chunk))
        logits = ctx.kept.pop(pieces[-1].start, None) if pieces else None
        kept = logits is not None
        if logits is None:
            logits = _memory(head, chunk)
        for number, rows in enumerate(reversed(pieces)):
            fresh = number > 0 or not kept
            part_NV = _write(head, rows, logits) if fresh else logits[: rows.stop - rows.start]
            for few in _few(part_NV):
                here = slice(rows.start + few.start, rows.start + few.stop)
                known = known_2N[0, here], known_2N[1, here]
                at = Distribution(part_NV[few], target[here], temperature, scratch, known)
                _turn(at, [(stat, grad[here]) for stat, grad in asked], curve)
            for block in _blocks(head, rows):
                head.turn_to(block)
                sums.turn_to(block, begun=number > 0)
                for tile in block:
                    sums.add(tile, part_NV[_within(tile, rows), tile.columns])
        found = [s if s is None else s.to(x.dtype) for s, x in ((sums.hidden, hidden), (sums.bias, bias))]
        return found[0], sums.weight, found[1], None, None, None, None, None, None


def _turn(at: Distribution, asked: Sequence[tuple[TokenStat, Tensor]], curve: HeadCurve) -> None:
    """The logits at a few positions become the gradient ``[N,V]`` of the head's products there."""
    logits_NV, live = at.logits_NV, [(stat, grad_N) for stat, grad_N in asked if bool(grad_N.any())]
    if not live:
        logits_NV.zero_()
        return
    grad_NV = logits_NV
    # where the logits are needed for the curve's slope, they stay as they are
    if curve.cap is not None or len(live) > 1 or not live[0][0].turn(at, live[0][1]):
        grad_NV = at.scratch.take("gradient", logits_NV).zero_()
        for stat, grad_N in live:
            stat.add_gradient(at, grad_N, grad_NV)
    if not curve.plain or at.temperature != 1.0:
        capped = logits_NV if curve.cap is None else logits_NV * at.temperature
        grad_NV.mul_(curve.slope(capped) / at.temperature)
    if grad_NV is not logits_NV:
        logits_NV.copy_(grad_NV)


def _memory(head: Head, chunk: int) -> Tensor:
    return head.hidden.new_empty(min(chunk, len(head.hidden)), len(head.of), dtype=head.dtype)


def _pieces(positions: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, positions)) for start in range(0, positions, size))


def _few(part_NV: Tensor) -> Iterator[slice]:
    """Positions that are read together."""
    rows, vocab = part_NV.shape
    return _pieces(rows, max(1, rows // 4 if part_NV.is_cuda else CACHED // vocab))


def _blocks(head: Head, rows: slice) -> Iterator[list[Tile]]:
    """Tiles of some positions, those of the same tokens together."""
    height, vocab = rows.stop - rows.start, len(head.of)
    for block in tiles(height, vocab, tile_cells(height * vocab, head.hidden.device)):
        yield [tile._replace(row=tile.row + rows.start) for tile in block]


def _within(tile: Tile, rows: slice) -> slice:
    return slice(tile.row - rows.start, tile.row - rows.start + tile.height)


def _write(head: Head, rows: slice, logits: Tensor) -> Tensor:
    """The logits of some positions, in ``logits``."""
    part_NV = logits[: rows.stop - rows.start]
    for block in _blocks(head, rows):
        head.turn_to(block)
        for tile in block:
            head.write(tile, part_NV[_within(tile, rows), tile.columns])
    return part_NV
