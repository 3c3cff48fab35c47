"""Programs run by worker processes that can be killed: whatever a text does, it costs one outcome."""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from harness.grading.grader import default_workers
from harness.grading.pool import GradingJob, Limits, Pool
from harness.grading.programs.work import PART

#: Processor seconds and MiB of a job: the interpreter's own limits end a program long before.
CPU_S, MEMORY_MB, WALL_S = 2.0, 512, 30.0
Status = Literal["ran", "invalid", "timeout"]


@dataclass(frozen=True)
class Ask:
    """A program's text, the names it is a function of where it has no head, and inputs to run it on.

    An input is the values of the parameters with commas between them; a text without parameters, whose value
    is asked for, has the one input ``""``.
    """

    program: str
    inputs: tuple[str, ...] = ("",)
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ran:
    """``outputs``: what the program gives for each input, as the language writes it; None where it fails."""

    status: Status
    outputs: tuple[str | None, ...] = ()


class ProgramRunner:
    """Runs programs in workers, which start with the first one; a context manager."""

    def __init__(self, workers: int | None = None) -> None:
        self._pool = Pool(workers or default_workers(), Limits(CPU_S, MEMORY_MB, 5000), loads=PART)
        self._futures: set[Future[Ran]] = set()
        told = weakref.WeakMethod(self._failed)
        self._pool.on_failure(lambda error: failed(error) if (failed := told()) else None)
        self._finalizer = weakref.finalize(self, self._pool.close)

    def run_all(self, asks: Sequence[Ask]) -> list[Ran]:
        """The outcomes in the order of ``asks``; equal ones are run once.

        Raises:
            harness.grading.pool.PoolFailed: worker processes cannot be started.
        """
        futures = {ask: self._put(ask) for ask in dict.fromkeys(asks)}
        done = {ask: future.result() for ask, future in futures.items()}
        return [done[ask] for ask in asks]

    def _put(self, ask: Ask) -> Future[Ran]:
        future: Future[Ran] = Future()
        self._futures.add(future)

        def arrived(job: GradingJob) -> None:
            said = job.found[PART]
            self._futures.discard(future)
            status: Status = "invalid" if said["status"] == "unparsed" else said["status"]
            future.set_result(Ran(status, tuple(said.get("outputs", ()))))

        rest = json.dumps({"inputs": ask.inputs, "parameters": ask.parameters})
        self._pool.put(GradingJob(ask.program, rest, [PART], arrived, allowed_s=WALL_S))
        return future

    def _failed(self, error: BaseException) -> None:
        for future in list(self._futures):
            if not future.done():
                future.set_exception(error)

    def close(self) -> None:
        """End the worker processes."""
        self._finalizer()

    def __enter__(self) -> ProgramRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
