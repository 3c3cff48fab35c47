"""Several processes as one: who works on which rows, and how everyone gets the result.

Every process holds the whole batch and takes every decision itself, from equal inputs; only passes of the
model, sampling and verifying are divided. World size therefore never shows in a stage, and one process is the
case in which nothing is divided.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch

from harness.distributed.processes import launched_size
from harness.util.errors import UserError
from harness.util.files import write_json
from harness.util.preemption import Preemption, Stopped

V = TypeVar("V")
W = TypeVar("W")

#: A process that waits longer than this for the others takes them for dead.
TIMEOUT_S = 1800.0
#: Where the launcher looks for what stopped a process (PyTorch's name).
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"

_objects: Any = None  # the CPU group through which plain values travel
_preemption: Preemption | None = None  # whether these processes have to go


@dataclass(frozen=True)
class World:
    """This process among ``size``; rank 0 leads: it alone writes files."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def all_gather(self, value: V) -> list[V]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value, group=_objects)
        return values

    def run_on_main(self, make: Callable[[], V]) -> V:
        """What ``make`` returns on rank 0, which alone calls it."""
        if self.size == 1:
            return make()
        box: list[Any] = [make() if self.is_main else None]
        torch.distributed.broadcast_object_list(box, src=0, group=_objects)
        return box[0]  # type: ignore[no-any-return]

    def run_locally(self, work: Callable[[], V]) -> list[V]:
        """What ``work`` returns on each process, by rank; each does its own without waiting for the others.

        Raises:
            Stopped: on all processes, when one was told to stop meanwhile.
        """
        if self.size == 1:
            return [work()]
        done, told = None, ""
        try:
            with _preemption.run_locally() if _preemption else nullcontext():
                done = work()
        except Stopped as stop:
            told = str(stop)
        everyone = self.all_gather((done, told))
        reason = next((why for _, why in everyone if why), "")
        if reason:
            raise Stopped(reason)
        return [value for value, _ in everyone]  # type: ignore[misc]

    def span(self, n: int) -> range:
        """The part of ``range(n)`` that is this process's: contiguous, by rank."""
        return range(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def spread(self, items: Sequence[W], work: Callable[[Sequence[W]], Sequence[V]]) -> list[V]:
        """``work(items)`` with each process doing its span; the results of all, in order."""
        mine = self.span(len(items))
        parts = self.run_locally(lambda: list(work([items[i] for i in mine])) if len(mine) else [])
        return [value for part in parts for value in part]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            torch.distributed.barrier(group=_objects)


def world() -> World:
    """The processes this one works with."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return World()
    return World(torch.distributed.get_rank(), torch.distributed.get_world_size())


def plain_group() -> Any:
    """The group that plain values travel in, on the CPU; None for one process."""
    return _objects


@contextmanager
def joined(
    device: str, preemption: Preemption | None = None, *, timeout_s: float = TIMEOUT_S
) -> Iterator[World]:
    """Join the processes that torchrun started (none: stay alone), and leave them at the end.

    Args:
        device: ``cpu`` or ``cuda``; weights and gradients travel over gloo or NCCL, plain values over gloo.
        preemption: from here on what any process is told holds for all of them.
        timeout_s: how long a process waits for the others.
    """
    global _objects, _preemption
    if launched_size() == 1:
        yield World()
        return

    limit = timedelta(seconds=timeout_s)
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=limit)
    _objects, _preemption = torch.distributed.new_group(backend="gloo", timeout=limit), preemption
    here = world()
    if preemption:
        preemption.together(lambda reason: next(filter(None, here.all_gather(reason)), ""))
    try:
        yield here
        here.wait()  # nobody goes, and is missed, before the first has written everything
    except Stopped:
        here.wait()
        torch.distributed.destroy_process_group()
        raise
    except BaseException as error:
        post(error)  # before the others notice that this one is gone
        raise
    finally:
        if preemption:
            preemption.together(None)
        _objects = _preemption = None
    torch.distributed.destroy_process_group()  # after an error it could wait for processes that are gone


def is_echo(error: BaseException) -> bool:
    """Whether an error only says that other processes are gone."""
    return isinstance(error, torch.distributed.DistError) or any(
        word in str(error) for word in ("gloo", "NCCL")
    )


def post(error: BaseException) -> bool:
    """Tell the launcher what stopped this process, in the form that PyTorch's agent reads.

    Returns:
        Whether there is a launcher that reads it.
    """
    path = Path(os.environ.get(ERROR_FILE, ""))
    if not path.name:
        return False
    if not path.exists():
        said = isinstance(error, UserError)
        further = {
            "py_callstack": "".join(traceback.format_exception(error)), "timestamp": str(int(time.time())),
            "unix_s": time.time(), "echo": is_echo(error), "user": said,
        }  # fmt: skip
        lines = str(error) if said else traceback.format_exception_only(error)[-1].strip()
        write_json(path, {"message": {"message": lines, "extraInfo": further}})
    return True


def micro_batches(
    lengths: Sequence[int], rows: int, size: int, *, tokens: int | None = None, shared: Sequence[int] = ()
) -> list[list[list[int]]]:
    """For each of ``size`` processes its micro-batches of at most ``rows`` rows: equally many, equally long.

    Every process must make as many passes as the others, so a short batch gives some of them empty ones.

    Args:
        lengths: tokens of each row.
        tokens: in a micro-batch at most, unless a single row has more.
        shared: tokens of each row that count once in a micro-batch with the row before it.
    """
    n = len(lengths)
    if size == 1:
        return [_in_order(lengths, rows, tokens, shared or [0] * n)]
    per_process = -(-n // (rows * size))
    if tokens is not None:
        per_process = max(per_process, -(-sum(lengths) // (max(tokens - max(lengths), 1) * size)))
    capacity = -(-n // (per_process * size))
    bins: list[list[int]] = [[] for _ in range(per_process * size)]
    load = [0] * len(bins)
    for row in sorted(range(n), key=lambda i: (-lengths[i], i)):  # longest first, each to the least loaded
        free = min((b for b in range(len(bins)) if len(bins[b]) < capacity), key=lambda b: (load[b], b))
        bins[free].append(row)
        load[free] += lengths[row]
    bins = [sorted(part) for part in bins]
    return [bins[r * per_process : (r + 1) * per_process] for r in range(size)]


def _in_order(
    lengths: Sequence[int], rows: int, tokens: int | None, shared: Sequence[int]
) -> list[list[int]]:
    parts: list[list[int]] = []
    held = 0
    for row, length in enumerate(lengths):
        more = length - shared[row]
        if not parts or len(parts[-1]) == rows or (tokens is not None and held + more > tokens):
            parts.append([])
            held, more = 0, length
        parts[-1].append(row)
        held += more
    return parts
