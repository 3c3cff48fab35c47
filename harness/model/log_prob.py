"""Log-prob and entropy of every position from tiles of logits: some positions by some of the tokens.

With z the logits and p their softmax: d logp / dz = onehot - p and dH/dz = -p (log p + H). A curve behind the
head multiplies both by its slope. Forward joins the tiles of a position as they come (Milakov & Gimelshein
2018, "Online normalizer calculation for softmax"), each relative to the largest logit so far. Backward needs
all logits again: as many as the budget has room for beside the tile in work are kept, the others computed
anew.

Tiles of the same tokens come one after the other, so the head's gradient is summed and written block by block
and never held twice. Shape letters: ``R`` positions by ``C`` tokens of a tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.model.head import HeadCurve

#: Logits of a tile on a CPU, so that the passes over it find it in the cache.
CACHED = 1 << 19


class Tile(NamedTuple):
    """Some positions by some tokens."""

    row: int
    height: int
    column: int
    width: int

    @property
    def rows(self) -> slice:
        return slice(self.row, self.row + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.column, self.column + self.width)

    @property
    def cells(self) -> int:
        return self.height * self.width


#: What is shown each tile's gradient.
Seen = Callable[[Tile, Tensor], None]


def tile_cells(cells: int, device: torch.device, positions: int = 0) -> int:
    """Logits of a tile, where ``cells`` may be held at once; room for all ``positions`` if they allow it."""
    return min(cells, max(CACHED, positions**2)) if device.type == "cpu" else cells


def tiles(positions: int, tokens: int, cells: int) -> Iterator[list[Tile]]:
    """Tiles of at most ``cells`` logits, those of the same tokens together; none without positions."""
    if positions == 0:
        return
    width = min(tokens, max(math.isqrt(cells), cells // positions))
    height = max(1, cells // width)
    for column in range(0, tokens, width):
        yield [
            Tile(row, min(height, positions - row), column, min(width, tokens - column))
            for row in range(0, positions, height)
        ]


class Head:
    """The head's logits, tile by tile, in memory that is used again."""

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float, curve: HeadCurve
    ) -> None:
        self.dtype = torch.promote_types(hidden.dtype, torch.float32)
        self.of, self.bias, self.temperature, self.curve = weight, bias, temperature, curve
        self.hidden = self._operand(hidden)
        self._spaces: dict[int, Tensor] = {}

    def _operand(self, value: Tensor) -> Tensor:
        """A CPU sums products in the type of its operands only."""
        return value if value.is_cuda else value.to(self.dtype)

    def turn_to(self, block: Sequence[Tile]) -> None:
        """Tiles of these tokens come next."""
        self.weight = self._operand(self.of[block[0].columns])

    def space(self, tile: Tile, number: int) -> Tensor:
        """Memory for the tile, the same for all of the same ``number``."""
        if number not in self._spaces or self._spaces[number].numel() < tile.cells:
            self._spaces[number] = self.hidden.new_empty(tile.cells, dtype=self.dtype)
        return self._spaces[number][: tile.cells].view(tile.height, tile.width)

    def logits(self, tile: Tile, fresh: bool = False) -> Tensor:
        """``[R,C]``, in memory of its own if ``fresh``."""
        shape = (tile.height, tile.width)
        return self.write(
            tile, self.hidden.new_empty(shape, dtype=self.dtype) if fresh else self.space(tile, 0)
        )

    def write(self, tile: Tile, out: Tensor) -> Tensor:
        """A tile's logits into ``out``, ``[R,C]``."""
        add_product(out, self.hidden[tile.rows], self.weight.T, first=True)
        if self.bias is not None:
            out.add_(self.bias[tile.columns])
        if not self.curve.plain:
            out.copy_(self.curve(out))
        return out if self.temperature == 1.0 else out.div_(self.temperature)

    def slope(self, logp: Tensor, lse: Tensor) -> Tensor | float | None:
        """The derivative of ``logits`` by the head's products, where they are ``logp + lse``; None if 1."""
        if self.curve.plain and self.temperature == 1.0:
            return None
        logits = logp if self.curve.cap is None else (logp + lse[:, None]) * self.temperature
        return self.curve.slope(logits) / self.temperature


class Gradients:
    """Of hidden states, head and bias, of those that need one: sums in fp32 or wider."""

    def __init__(self, head: Head, bias: Tensor | None, needed: Sequence[bool]) -> None:
        self._head = head
        self.hidden = torch.zeros_like(head.hidden, dtype=head.dtype) if needed[0] else None
        written = len(head.hidden) > 0
        self.weight = (torch.empty_like if written else torch.zeros_like)(head.of) if needed[1] else None
        self.bias = torch.zeros_like(bias, dtype=head.dtype) if bias is not None and needed[2] else None

    def turn_to(self, block: Sequence[Tile], begun: bool = False) -> None:
        """Tiles of these tokens come next; ``begun`` where they add to what other positions have given."""
        self._first = None if begun else block[0].row
        if self.weight is not None:
            part, dtype = self.weight[block[0].columns], self._head.dtype
            if part.dtype != dtype:
                part = part.to(dtype) if begun else torch.empty_like(part, dtype=dtype)
            self._part = part

    def add(self, tile: Tile, grad_RC: Tensor) -> None:
        """What a tile has to add: the gradient of the head's products."""
        hidden, weight = self._head.hidden[tile.rows], self._head.weight
        local = grad_RC.to(hidden.dtype)
        if self.hidden is not None:
            add_product(self.hidden[tile.rows], local, weight)
        if self.weight is not None:
            add_product(self._part, local.T, hidden, first=tile.row == self._first)
            if self._part.dtype != self.weight.dtype:
                self.weight[tile.columns] = self._part  # the last of the block's tiles stays
        if self.bias is not None:
            self.bias[tile.columns] += grad_RC.sum(0)


def add_product(out: Tensor, a: Tensor, b: Tensor, first: bool = False) -> None:
    """``out += a @ b`` in ``out``'s type, or ``out = a @ b`` where nothing is in ``out`` yet."""
    beta = 0.0 if first else 1.0
    if a.dtype == out.dtype:
        out.addmm_(a, b, beta=beta)
    else:  # CUDA alone sums products of shorter operands in fp32
        torch.addmm(out, a, b, beta=beta, out_dtype=out.dtype, out=out)  # type: ignore[call-overload]


class LogProbEntropy(torch.autograd.Function):
    """``[N]`` log-probs and ``[N]`` entropies, see the module's docstring.

    ``cells`` is the number of logits that may be held at once; ``keep`` says whether a backward pass follows;
    without ``bends`` there are no entropies but None;
    ``seen`` is called with each tile and the gradient ``[R,C]`` of the head's products there; tiles then hold
    all positions, as far as ``cells`` allow it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        temperature: float,
        cells: int,
        curve: HeadCurve,
        keep: bool,
        bends: bool = True,
        seen: Seen | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        n, vocab = hidden.shape[0], weight.shape[0]
        size = tile_cells(cells, hidden.device, 0 if seen is None else n)
        room = cells - min(size, n * vocab) if keep else 0
        head = Head(hidden, weight, bias, temperature, curve)
        state_XN = torch.zeros(3 + bends, n, dtype=head.dtype, device=hidden.device)
        kept: dict[Tile, tuple[Tensor, Tensor]] = {}
        for block in tiles(n, vocab, size):
            head.turn_to(block)
            for tile in block:
                held = tile.cells <= room
                z = head.logits(tile, fresh=held)
                top = _join(state_XN[:, tile.rows], z, target[tile.rows], tile, head.space(tile, 1))
                if held:
                    room -= tile.cells
                    kept[tile] = z, top
        top, total, chosen = state_XN[:3]
        log_total = total.log()
        entropy = log_total - state_XN[3] / total if bends else None
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(hidden, weight, bias, target, top + log_total, entropy)
        ctx.temperature, ctx.size, ctx.curve, ctx.kept, ctx.seen = temperature, size, curve, kept, seen
        return chosen - log_total, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, target, lse, entropy = ctx.saved_tensors
        grad_logp, bend = grads
        # the gradient of z is grad_logp * onehot - p (along + bend * log p)
        along = grad_logp
        if bend is not None:
            along = bend * entropy if grad_logp is None else grad_logp + bend * entropy
        if along is None:
            return (None,) * 10
        head = Head(hidden, weight, bias, ctx.temperature, ctx.curve)
        sums = Gradients(head, bias, ctx.needs_input_grad)
        for block in tiles(hidden.shape[0], weight.shape[0], ctx.size):
            head.turn_to(block)
            sums.turn_to(block)
            for tile in block:
                rows = tile.rows
                if tile in ctx.kept:  # once: what is kept turns into its gradient
                    z, top = ctx.kept.pop(tile)
                    logp = z.add_((top - lse[rows])[:, None])
                else:
                    logp = head.logits(tile).sub_(lse[rows, None])
                slope = head.slope(logp, lse[rows])
                if bend is None:
                    grad = logp.exp_().mul_(-along[rows, None])
                else:
                    p = torch.exp(logp, out=head.space(tile, 1))
                    grad = logp.mul_(-bend[rows, None]).sub_(along[rows, None]).mul_(p)
                if grad_logp is not None:
                    at, inside = _inside(target[rows], tile)
                    grad.scatter_add_(1, at, torch.where(inside, grad_logp[rows], 0.0)[:, None])
                sums.add(tile, grad if slope is None else grad.mul_(slope))
                if ctx.seen is not None:
                    ctx.seen(tile, grad)
        found = [s if s is None else s.to(x.dtype) for s, x in ((sums.hidden, hidden), (sums.bias, bias))]
        return found[0], sums.weight, found[1], None, None, None, None, None, None, None


def _join(state_XR: Tensor, z_RC: Tensor, target_R: Tensor, tile: Tile, space_RC: Tensor) -> Tensor:
    """Put a tile's logits beside what is known of its positions from the tiles before it.

    Args:
        state_XR: the largest logit; relative to it: the sum of the exponentials, the target's logit and, if
            wanted, the sum of the exponentials weighted by their exponents. Updated in place.
        z_RC: becomes relative to the largest logit.

    Returns:
        ``[R]``: the largest logit so far.
    """
    top, total, chosen = state_XR[:3]
    first = tile.column == 0
    most = z_RC.amax(1) if first else torch.maximum(z_RC.amax(1), top)
    z_RC.sub_(most[:, None])
    at, inside = _inside(target_R, tile)
    found = z_RC.gather(1, at).squeeze(1)
    e_RC = torch.exp(z_RC, out=space_RC)
    sums = e_RC.sum(1)
    moments = e_RC.mul_(z_RC).sum(1) if len(state_XR) > 3 else None
    if not first:
        rise = top - most
        shrink = rise.exp()
        if moments is not None:
            moments += shrink * (state_XR[3] + rise * total)
        sums += shrink * total
        found = torch.where(inside, found, chosen + rise)
    for kept, value in zip(state_XR, (most, sums, found, moments), strict=False):
        kept.copy_(value)
    return most


def _inside(target_R: Tensor, tile: Tile) -> tuple[Tensor, Tensor]:
    """``[R,1]``: the targets' columns in a tile, any for those elsewhere; ``[R]``: whether they are there."""
    at = target_R - tile.column
    return at.clamp(0, tile.width - 1)[:, None], (at >= 0) & (at < tile.width)
