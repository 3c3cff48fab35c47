"""The interface: submit answers, collect grades; what strings cannot decide goes to killable workers."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from harness.grading.graders import Kind, Prepared, kind, prepare
from harness.grading.pool import GradingJob, Limits, Pool
from harness.problems.problem import Verdict, VerdictStatus

#: Seconds that :meth:`Grader.grade` may keep its caller waiting.
WALL_S = 4.0
#: Answers graded in batches may take so many times as long: nobody waits for a single one, and what ends a
#: runaway is its processor time. A busy machine then changes no verdict.
BATCH_PATIENCE = 5
#: Processor seconds for each of the two graders.
CPU_S = 2.5
MEMORY_MB = 1024
RECYCLE_AFTER = 1000
#: Pairs of answers whose verdicts are kept: many samples of a problem end in the same answer.
REMEMBER = 20_000

_LOG = logging.getLogger(__name__)
_CLOSED = RuntimeError("this grader was closed")


@dataclass(frozen=True)
class Grade:
    """Outcome for one response.

    ``verdict`` is the named grader's, with the answer in canonical form; ``second`` what the independent
    second grader says of the same answer (None when it was switched off); ``wall_s`` the seconds spent in
    workers, 0 where strings, plain numbers or an earlier verdict settled it; ``error`` where a grader failed,
    which counts as unparsed.
    """

    verdict: Verdict
    second: VerdictStatus | None
    wall_s: float = 0.0
    error: str = ""


class Grader:
    """Grades responses in worker processes that can be killed; a context manager.

    Processes start with the first answer that needs them. Every method may be called from every thread. An
    answer may take ``cpu_s`` processor seconds for each of the two graders and ``wall_s`` seconds in all
    (five times as many in :meth:`submit` and :meth:`grade_all`); a worker may use ``memory_mb`` MiB of
    address space. ``fast=False`` sends every answer to a worker, ``second=False`` saves the second grader's
    work where nobody reads it, as in training; the last ``remember`` pairs of answers are not graded twice.

    Raises:
        harness.util.errors.UserError: ``name`` is none of :data:`harness.grading.graders.GRADERS`.
    """

    def __init__(
        self,
        name: str = "math-verify",
        *,
        workers: int | None = None,
        wall_s: float = WALL_S,
        cpu_s: float = CPU_S,
        memory_mb: int = MEMORY_MB,
        recycle_after: int = RECYCLE_AFTER,
        fast: bool = True,
        second: bool = True,
        remember: int = REMEMBER,
    ) -> None:
        self.kind: Kind = kind(name)
        self._fast, self._second, self._wall_s = fast, second, wall_s
        self._pool = Pool(workers or default_workers(), Limits(cpu_s, memory_mb, recycle_after))
        self._remember = remember if fast else 0
        self._known: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        self._news = threading.Condition()
        self._done: deque[tuple[Any, Grade]] = deque()
        self._open = 0
        self._futures: set[Future[Grade]] = set()
        self._closed = False
        told = weakref.WeakMethod(self._failed)  # a forgotten grader must be collected, and end its processes
        self._pool.on_failure(lambda error: failed(error) if (failed := told()) else None)
        self._finalizer = weakref.finalize(self, self._pool.close)
        #: Failures of a grader by kind and place; such answers are unparsed.
        self.errors: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return self.kind.name

    @property
    def version(self) -> str:
        """Names everything that decides; goes into records."""
        return self.kind.version

    def start(self) -> None:
        """Start the worker processes now and not with the first answer that needs them; returns at once."""
        self._pool.start()

    def submit(self, *, gold: str, pred: str, tag: Any = None) -> None:
        """Queue a whole response; its grade comes out of :meth:`finished` with ``tag``."""
        with self._news:
            self._open += 1

        def arrived(grade: Grade) -> None:
            with self._news:
                self._open -= 1
                self._done.append((tag, grade))
                self._news.notify_all()

        self._enqueue(gold, pred, arrived, self._wall_s * BATCH_PATIENCE)

    def finished(self, *, wait: bool = False) -> Iterator[tuple[Any, Grade]]:
        """``(tag, grade)`` of what is done so far; with ``wait`` until all that was submitted is.

        Raises:
            harness.grading.pool.PoolFailed: worker processes cannot be started.
        """
        while True:
            with self._news:
                while wait and not self._done and self._open and not self._ended():
                    self._news.wait()
                if not self._done:
                    if wait and self._open and (ended := self._ended()):
                        raise ended
                    return
                item = self._done.popleft()
            yield item

    def grade(self, *, gold: str, pred: str) -> Grade:
        """Grade one response and wait for it."""
        return self._future(gold, pred, self._wall_s).result()

    def grade_all(self, pairs: Sequence[tuple[str, str]]) -> list[Grade]:
        """Grade ``(gold, pred)`` pairs; the grades in the same order."""
        futures = [self._future(gold, pred, self._wall_s * BATCH_PATIENCE) for gold, pred in pairs]
        return [future.result() for future in futures]

    def close(self) -> None:
        """End the worker processes; what is not graded yet never will be."""
        self._closed = True
        self._finalizer()
        self._cancel(_CLOSED)
        with self._news:
            self._news.notify_all()

    def worker_pids(self) -> list[int]:
        """Pids of the living workers."""
        return self._pool.pids()

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ended(self) -> BaseException | None:
        """Why nothing will be graded any more."""
        return self._pool.failure or (_CLOSED if self._closed else None)

    def _future(self, gold: str, pred: str, allowed_s: float) -> Future[Grade]:
        future: Future[Grade] = Future()
        with self._news:
            self._futures.add(future)

        def arrived(grade: Grade) -> None:
            with self._news:
                self._futures.discard(future)
            if not future.done():
                future.set_result(grade)

        self._enqueue(gold, pred, arrived, allowed_s)
        return future

    def _enqueue(self, gold: str, pred: str, arrived: Callable[[Grade], None], allowed_s: float) -> None:
        prepared = prepare(self.kind, gold=gold, pred=pred, fast=self._fast)
        parts = [] if prepared.first else ["first"]
        parts += ["second"] if self._second and not prepared.second else []
        job = GradingJob(
            prepared.gold,
            prepared.pred,
            parts,
            lambda job: arrived(self._judged(prepared, job)),
            allowed_s=allowed_s,
        )
        with self._news:
            job.found = dict(self._known.get((job.gold, job.pred), {}))
        job.parts = [part for part in parts if part not in job.found]
        if job.parts:
            self._pool.put(job)
        else:
            job.deliver(job)

    def _judged(self, prepared: Prepared, job: GradingJob) -> Grade:
        if job.wall_s:
            self._count_errors(job)
            if self._remember:
                self._keep(job)
        status: VerdictStatus = prepared.first or job.found["first"]["status"]
        second: VerdictStatus | None = None
        if self._second:
            second = prepared.second or job.found["second"]["status"]
        form = job.found.get("second", {}).get("canonical") or prepared.canonical
        if status == "right":
            form = prepared.gold_canonical
        return Grade(Verdict(status, form), second, job.wall_s, "; ".join(_failures(job)))

    def _count_errors(self, job: GradingJob) -> None:
        """A failure of ours must be seen, and must not end an evaluation: the first of a kind is logged."""
        for failure in _failures(job):
            with self._news:
                self.errors[failure] += 1
                new = self.errors[failure] == 1
            if new:
                _LOG.warning("%s; unparsed: reference %.99r, answer %.99r", failure, job.gold, job.pred)

    def _keep(self, job: GradingJob) -> None:
        """Remember what was found; not a timeout, which another try may decide."""
        found = {part: said for part, said in job.found.items() if said["status"] != "timeout"}
        with self._news:
            self._known[job.gold, job.pred] = found
            if len(self._known) > self._remember:
                del self._known[next(iter(self._known))]

    def _failed(self, error: BaseException) -> None:
        self._cancel(error)
        with self._news:
            self._news.notify_all()

    def _cancel(self, error: BaseException) -> None:
        with self._news:
            futures, self._futures = self._futures, set()
        for future in futures:
            if not future.done():
                future.set_exception(error)


def _failures(job: GradingJob) -> list[str]:
    return [f"{part} grader: {said['error']}" for part, said in job.found.items() if "error" in said]


def default_workers() -> int:
    """Half of the cores, at least one and at most eight: the other half generates."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // 2))
