"""The local launcher: a number of worker processes on this machine, each with its own run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from harness.run.state import RunState, read_state
from harness.sweep.jobs import Job
from harness.sweep.launcher import LaunchOutcome
from harness.sweep.live import RunningRun, Snapshot, open_display
from harness.sweep.plan import Ledger, states, write_job
from harness.sweep.recorded import with_records
from harness.sweep.sweep import Sweep
from harness.util.environment import ROOT
from harness.util.errors import UserError, unknown
from harness.util.locks import holder, locked

POLL_S = 0.2
#: Time that workers get to write their status after an interruption.
GRACE_S = 15.0


@dataclass
class _Worker:
    job: Job
    process: subprocess.Popen[bytes]
    start: float


class LocalLauncher:
    """Runs ``workers`` runs at a time and shows their progress; returns when all are finished.

    Args:
        command: how a worker is started; the job file is appended.
    """

    def __init__(self, sweep: Sweep, book: Ledger, command: Sequence[str] | None = None) -> None:
        for key in sweep.local:
            if key != "workers":
                raise unknown("key in local:", key, ["workers"])
        workers = sweep.local.get("workers")
        if workers is not None and (not isinstance(workers, int) or workers < 1):
            raise UserError(f"workers={workers} is not a whole number >= 1")
        self._sweep, self._book, self._workers = sweep, book, workers
        self._command = list(command or (sys.executable, "-m", "entrobench", "_worker"))
        self._stop = False

    def submit(self, jobs: Sequence[Job]) -> LaunchOutcome:
        with locked(self._book.lock, wait=False) as ours:
            if not ours:
                raise UserError(
                    f"sweep '{self._sweep.name}' is being run by process {holder(self._book.lock)}; "
                    f"watch it with: entrobench sweep status {self._sweep.path}"
                )
            return self._work(list({job.run_id: job for job in jobs}.values()))

    def status(self, jobs: Sequence[Job]) -> list[RunState]:
        return with_records(self._sweep, jobs, states(jobs, self._book))

    def elsewhere(self, running: Sequence[Job]) -> list[Job]:
        """All of them, unless they may be this sweep's own: a worker waits for the run's lock, and makes the
        run only if the other one has not finished it."""
        return [] if holder(self._book.lock) else list(running)

    def notes(self) -> list[str]:
        return []

    def logs(self, job: Job) -> list[Path]:
        return [path for path in [self._book.log(job)] if path.exists()]

    def cancel(self, jobs: Sequence[Job]) -> int:
        pid = holder(self._book.lock)
        if not pid:
            return 0
        running = sum(state.state == "running" for state in self.status(jobs))
        os.kill(pid, signal.SIGTERM)
        return running

    def _work(self, jobs: list[Job]) -> LaunchOutcome:
        waiting, running, failed = list(jobs), list[_Worker](), dict[str, tuple[str, ...]]()
        finished: list[float] = []
        limit = self._workers or max(1, _cpus() // max((job.cores for job in jobs), default=1))
        with self._signals(), open_display(self._sweep.name) as display:
            try:
                while (waiting or running) and not self._stop:
                    while waiting and len(running) < limit:
                        running.append(self._start(waiting.pop(0)))
                    for worker in [w for w in running if w.process.poll() is not None]:
                        running.remove(worker)
                        finished.append(time.monotonic() - worker.start)
                        error = self._outcome(worker)
                        if error is not None:
                            failed[worker.job.run_id] = error
                        display.finished(worker.job, error, finished[-1])
                    display.update(self._snapshot(jobs, waiting, running, finished, len(failed), limit))
                    time.sleep(POLL_S)
            finally:
                self._end(running)
        if self._stop:
            raise KeyboardInterrupt
        return LaunchOutcome(len(jobs), failed)

    def _start(self, job: Job) -> _Worker:
        log = self._book.log(job)
        log.parent.mkdir(parents=True, exist_ok=True)
        write_job(job, self._book.job_file(job))
        threads = str(job.threads)
        # Without a limit every worker's BLAS takes all cores and they slow each other down many times over.
        environment = os.environ | {k: threads for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment |= {"PYTHONPATH": os.pathsep.join(path), "ENTROBENCH_PARENT": str(os.getpid())}
        with open(log, "ab") as handle:
            process = subprocess.Popen(
                [*self._command, str(self._book.job_file(job))],
                stdin=subprocess.DEVNULL, stdout=handle, stderr=subprocess.STDOUT, env=environment,
                # Ctrl-C reaches only this process, which then ends its workers in good order.
                start_new_session=True,
            )  # fmt: skip
        return _Worker(job, process, time.monotonic())

    def _outcome(self, worker: _Worker) -> tuple[str, ...] | None:
        """None for a finished run, else the last lines of what stopped it."""
        state = read_state(worker.job.folder, worker.job.splits)
        if worker.process.returncode == 0 and state.state == "done":
            return None
        if state.error:
            return state.error
        log = self._book.log(worker.job).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        code = worker.process.returncode
        how = f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return (*log[-3:], f"the worker {how}; its log is {self._book.log(worker.job)}")

    def _snapshot(
        self, jobs: list[Job], waiting: list[Job], running: list[_Worker], finished: list[float], failed: int,
        limit: int,
    ) -> Snapshot:  # fmt: skip
        rows = [RunningRun(w.job.label, w.job.table_seed, read_state(w.job.folder)) for w in running]
        age = [time.monotonic() - worker.start for worker in running]
        expected = [row.state.eta_s or 0.0 for row in rows]
        # A run's length: of the finished ones, else what the running ones expect.
        lengths = finished or [old + new for old, new in zip(age, expected, strict=True)]
        mean = sum(lengths) / len(lengths) if lengths else 0.0
        left = sum(max(new, mean - old, 0.0) for old, new in zip(age, expected, strict=True))
        known = bool(finished) or any(expected)
        eta = (left + mean * len(waiting)) / max(1, min(limit, len(waiting) + len(running)))
        done = len(finished) - failed
        return Snapshot(tuple(rows), len(jobs), done, failed, len(waiting), eta if known else None)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, frame: FrameType | None) -> None:
            self._stop = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, running: list[_Worker]) -> None:
        for worker in running:
            worker.process.terminate()
        deadline = time.monotonic() + GRACE_S
        for worker in running:
            try:
                worker.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
