"""A pool of grading workers with limits on time and memory. Safe to use from any thread."""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.grading import wire
from harness.grading.children import Forker, Worker

_FAILED_STARTS = 3


@dataclass
class GradingJob:
    """One pair of answers on its way: the parts still to be graded, what is known, and the time it has."""

    gold: str
    pred: str
    parts: list[str]
    deliver: Callable[[GradingJob], None]
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    allowed_s: float = 4.0
    started: float = 0.0
    wall_s: float = 0.0

    def deadline(self, now: float) -> float:
        """When the part that starts now has to be done; an eighth of the time is kept for each later one."""
        left = self.allowed_s - self.wall_s - (now - self.started)
        kept = self.allowed_s / 8
        return now + max(kept, left - kept * (len(self.parts) - 1))


@dataclass(frozen=True)
class Limits:
    """What a worker may spend: processor seconds on a part, memory, and answers before it is replaced."""

    cpu_s: float
    memory_mb: int
    recycle_after: int


class PoolFailed(RuntimeError):
    """Workers cannot be started at all."""


class Pool:
    """Workers, and the one thread that feeds them.

    ``deliver`` of a job is called in that thread as soon as every part has a verdict. A part whose worker
    ran out of time or memory, or died, is a ``timeout``; the rest of the job goes on in a fresh worker.
    """

    def __init__(self, workers: int, limits: Limits, loads: str = "") -> None:
        """``loads`` names what workers are for, where that is not answers (:func:`worker.load`)."""
        self._loads = loads
        self.most = workers
        self.limits = limits
        self.failure: BaseException | None = None
        self.restarts = 0
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._waiting: deque[GradingJob] = deque()
        self._workers: dict[int, Worker] = {}
        self._unborn: list[Worker] = []
        self._forker: Forker | None = None
        self._forker_ready = False
        self._failed_starts = 0
        self._numbers = 0
        self._thread: threading.Thread | None = None
        self._selector: selectors.BaseSelector | None = None
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_write.setblocking(False)
        self._closed = False
        self._on_failure: Callable[[BaseException], None] | None = None

    def start(self) -> None:
        """Start the thread and the forker now, not with the first answer."""
        self._check_owner()
        with self._lock:
            if self._closed:
                raise RuntimeError("this grader is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="entrobench-grading", daemon=True)
                self._thread.start()

    def put(self, job: GradingJob) -> None:
        """Queue a job; returns at once."""
        self.start()
        with self._lock:
            if self.failure is not None:
                raise PoolFailed(str(self.failure)) from self.failure
            self._waiting.append(job)
        self._wake()

    def close(self) -> None:
        """End thread and processes; jobs that are not done are never delivered."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._waiting.clear()
            thread = self._thread
        self._wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._wake_read.close()
        self._wake_write.close()

    def pids(self) -> list[int]:
        """Pids of the living workers."""
        return [worker.pid for worker in list(self._workers.values()) if worker.pid is not None]

    def forker_pid(self) -> int | None:
        return self._forker.process.pid if self._forker else None

    def on_failure(self, call: Callable[[BaseException], None]) -> None:
        """Have ``call`` called once when no worker can be started."""
        self._on_failure = call

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError("a grader works in the process that made it: make one after the fork")

    def _wake(self) -> None:
        try:
            self._wake_write.send(b"\0")
        except BlockingIOError:
            return  # it is awake already
        except OSError:
            if not self._closed:
                raise

    # ---- everything below runs in the pool's thread ----

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            self._selector = selector
            selector.register(self._wake_read, selectors.EVENT_READ, None)
            try:
                while not self._closed:
                    self._step()
            except BaseException as error:
                self.failure = error
                if self._on_failure is not None:
                    self._on_failure(error)
            finally:
                self._end_forker()

    def _step(self) -> None:
        assert self._selector is not None
        self._feed()
        for key, _ in self._selector.select(self._patience()):
            if key.data is None:
                self._wake_read.recv(4096)
            elif isinstance(key.data, Forker):
                self._hear_forker()
            elif key.data.number in self._workers:
                self._hear(key.data)
        now = time.monotonic()
        for worker in [w for w in self._workers.values() if w.deadline <= now]:
            self._lost(worker)

    def _patience(self) -> float | None:
        nearest = min((w.deadline for w in self._workers.values()), default=float("inf"))
        return None if nearest == float("inf") else max(0.0, nearest - time.monotonic())

    def _feed(self) -> None:
        with self._lock:
            waiting = len(self._waiting)
        if not waiting:
            return
        idle = [w for w in self._workers.values() if w.job is None and not w.doomed]
        for worker in idle[:waiting]:
            with self._lock:
                if not self._waiting:
                    return
                job = self._waiting.popleft()
            self._give(worker, job)
        for _ in range(min(waiting - len(idle), self.most - len(self._workers) - len(self._unborn))):
            self._ask_for_worker()

    def _give(self, worker: Worker, job: GradingJob) -> None:
        worker.job, job.started = job, time.monotonic()
        worker.deadline = job.deadline(job.started)
        request = {"gold": job.gold, "pred": job.pred, "parts": job.parts, "cpu_s": self.limits.cpu_s}
        try:
            wire.send(worker.channel, request)
        except OSError:  # it died while it was idle: not this answer's fault
            self._waiting_again(job)
            worker.job = None
            self._drop(worker)

    def _waiting_again(self, job: GradingJob) -> None:
        with self._lock:
            if not self._closed:
                self._waiting.appendleft(job)

    def _hear(self, worker: Worker) -> None:
        try:
            message = wire.receive(worker.channel)
        except TimeoutError:
            message = None
        if message is None:
            self._lost(worker)
            return
        job, now = worker.job, time.monotonic()
        job.found[message["part"]] = message
        job.parts = [part for part in job.parts if part != message["part"]]
        worker.deadline = job.deadline(now)
        if message.get("spent"):
            worker.doomed = True
        if job.parts and not worker.doomed:
            return
        worker.graded += 1
        worker.job, worker.deadline = None, float("inf")
        self._settle(job, now)
        if worker.doomed or worker.graded >= self.limits.recycle_after:
            self._drop(worker)

    def _lost(self, worker: Worker) -> None:
        """A worker that is late or has died: the part it was at is a timeout."""
        job, worker.job = worker.job, None
        self._drop(worker)
        if job is not None:
            job.found[job.parts[0]] = {"part": job.parts[0], "status": "timeout"}
            job.parts = job.parts[1:]
            self._settle(job, time.monotonic())

    def _settle(self, job: GradingJob, now: float) -> None:
        job.wall_s += now - job.started
        if job.parts:
            self._waiting_again(job)
        else:
            job.deliver(job)

    def _ask_for_worker(self) -> None:
        assert self._selector is not None
        if self._forker is None:
            self._forker = Forker(self.limits.memory_mb, self._loads)
            self._forker_ready = False
            self._selector.register(self._forker, selectors.EVENT_READ, self._forker)
        self._numbers += 1
        try:
            self._unborn.append(self._forker.fork(self._numbers))
        except OSError:
            self._forker_gone("it ended")

    def _hear_forker(self) -> None:
        assert self._selector is not None and self._forker is not None
        try:
            message = self._forker.message()
        except OSError:
            message = None
        if message is None or "failed" in message:
            self._forker_gone(message["failed"] if message else "it ended")
        elif "ready" in message:
            self._forker_ready = True
        else:
            self._failed_starts = 0
            worker = next(w for w in self._unborn if w.number == message["forked"])
            self._unborn.remove(worker)
            worker.pid = int(message["pid"])
            self._workers[worker.number] = worker
            self._selector.register(worker, selectors.EVENT_READ, worker)

    def _forker_gone(self, why: str) -> None:
        """Start again, but not for ever."""
        self._failed_starts += 1
        for worker in list(self._workers.values()):
            self._lost(worker)
        self._end_forker()
        if self._failed_starts >= _FAILED_STARTS:
            raise PoolFailed(f"grading processes do not start ({why}); is math-verify installed?")

    def _drop(self, worker: Worker) -> None:
        assert self._selector is not None
        if self._workers.pop(worker.number, None) is None:
            return
        self._selector.unregister(worker)
        worker.channel.close()
        self.restarts += 1
        if self._forker is not None and worker.pid is not None:
            try:
                self._forker.bury(worker.pid)
            except OSError:
                return  # the forker has gone, and with it the worker

    def _end_forker(self) -> None:
        forker, self._forker = self._forker, None
        if forker is None:
            return
        if self._selector is not None:
            self._selector.unregister(forker)
            for worker in self._workers.values():
                self._selector.unregister(worker)
        for worker in [*self._workers.values(), *self._unborn]:
            worker.channel.close()
        self._workers.clear()
        self._unborn.clear()
        forker.close()
