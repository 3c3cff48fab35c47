"""Several processes as one: who works on which rows, and how everyone gets the result.

Every process holds the whole batch and takes every decision itself, from equal inputs; only passes of the
model, sampling and verifying are divided. World size therefore never shows in a stage, and one process is the
case in which nothing is divided.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as dist

V = TypeVar("V")
W = TypeVar("W")

_objects: Any = None  # the CPU group through which plain values travel


@dataclass(frozen=True)
class World:
    """This process among ``size``; rank 0 leads: it alone writes files."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def everyones(self, value: V) -> list[V]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=_objects)
        return values

    def leaders(self, make: Callable[[], V]) -> V:
        """What ``make`` returns on rank 0, which alone calls it."""
        if self.size == 1:
            return make()
        box: list[Any] = [make() if self.leads else None]
        dist.broadcast_object_list(box, src=0, group=_objects)
        return box[0]  # type: ignore[no-any-return]

    def span(self, n: int) -> range:
        """The part of ``range(n)`` that is this process's: contiguous, by rank."""
        return range(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def spread(self, items: Sequence[W], work: Callable[[Sequence[W]], Sequence[V]]) -> list[V]:
        """``work(items)`` with each process doing its span; the results of all, in order."""
        mine = self.span(len(items))
        done = work([items[i] for i in mine]) if len(mine) else []
        return [value for part in self.everyones(list(done)) for value in part]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier(group=_objects)


def world() -> World:
    """The processes this one works with."""
    if not dist.is_available() or not dist.is_initialized():
        return World()
    return World(dist.get_rank(), dist.get_world_size())


def launched_size() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that torchrun started (none: stay alone), and leave them at the end.

    Args:
        device: ``cpu`` or ``cuda``; weights and gradients travel over gloo or NCCL, plain values over gloo.
    """
    global _objects
    if launched_size() == 1:
        yield World()
        return
    import torch

    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    _objects = dist.new_group(backend="gloo")
    try:
        yield world()
    finally:
        _objects = None
        dist.destroy_process_group()


def micro_batches(lengths: Sequence[int], rows: int, size: int) -> list[list[list[int]]]:
    """For each of ``size`` processes its micro-batches of at most ``rows`` rows: equally many, equally long.

    Every process must make as many passes as the others, so a short batch gives some of them empty ones.

    Args:
        lengths: tokens of each row.
    """
    n = len(lengths)
    if size == 1:
        return [[list(range(i, min(i + rows, n))) for i in range(0, n, rows)]]
    per_process = -(-n // (rows * size))
    capacity = -(-n // (per_process * size))
    bins: list[list[int]] = [[] for _ in range(per_process * size)]
    load = [0] * len(bins)
    for row in sorted(range(n), key=lambda i: (-lengths[i], i)):  # longest first, each to the least loaded
        free = min((b for b in range(len(bins)) if len(bins[b]) < capacity), key=lambda b: (load[b], b))
        bins[free].append(row)
        load[free] += lengths[row]
    bins = [sorted(part) for part in bins]
    return [bins[r * per_process : (r + 1) * per_process] for r in range(size)]
