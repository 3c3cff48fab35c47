"""``entrobench _worker JOB``: one run in a process of its own, or in several, started by a launcher."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.distributed.launch import INTERRUPTED, code_of, in_child, launch
from harness.distributed.processes import launched_size
from harness.distributed.world import joined
from harness.run import execute as runs
from harness.run.compose import from_dict
from harness.run.execute import status
from harness.sweep.plan import read_job
from harness.train.processes import local_size
from harness.util.errors import UserError
from harness.util.files import write_json
from harness.util.locks import holder, lock_path, locked
from harness.util.preemption import Preemption, Stopped

if TYPE_CHECKING:
    from harness.distributed.world import World

#: Several processes look so often whether the lock of their run is free.
LOCK_POLL_S = 2.0


def work(file: str) -> int:
    """Carry out the job; returns 0 when the run is finished, 1 when it failed."""
    job = read_job(Path(file))
    if launched_size() > 1:
        return in_child(partial(_share, job))
    preemption = Preemption.from_environment()
    folder = Path(job["folder"])
    if job["config"]["train"].get("processes", 1) != 1:
        end_with_parent()
        return _launch(job, file, folder)
    preemption.listen()
    end_with_parent()
    try:
        # Two sweeps may share a run: the second waits here and then finds it finished.
        with _alone(folder, preemption):
            _execute(job, preemption)
    except Stopped as stop:
        print(f"stopped: {stop}", flush=True)
        return code_of(stop)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:
        traceback.print_exc()
        _note_failure(folder, error)
        return 1
    return 0


def _launch(job: dict[str, Any], job_file: str, folder: Path) -> int:
    """The run asks for several processes on this machine."""
    try:
        run = _run_of(job)
        code = launch(
            ["_worker", job_file], processes=local_size(run), folder=folder, threads=run.train.threads
        )
    except Exception as error:
        traceback.print_exc()
        _note_failure(folder, error)
        return 1
    return 1 if code == 2 else code


def _run_of(job: dict[str, Any]) -> Any:
    return from_dict(job["config"])


def _share(job: dict[str, Any]) -> int:
    """Carry out the job as one of several processes."""
    from harness.run.set_up import device_of

    preemption = Preemption.from_environment()
    preemption.listen(interrupts=True)
    end_with_parent()
    run = _run_of(job)
    local_size(run)  # whether these processes can share it
    with joined(device_of(run), preemption) as here, locked_together(Path(job["folder"]), here, preemption):
        _execute(job, preemption)
    return 0


def _execute(job: dict[str, Any], preemption: Preemption) -> None:
    with preemption.leaving():
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # nobody watches a log
        run = _run_of(job)
    if job["role"] == "base":
        runs.evaluate_base(run, preemption=preemption)
    else:
        runs.execute(run, evaluate=bool(job["evaluate"]), preemption=preemption)


@contextmanager
def _alone(folder: Path, preemption: Preemption) -> Iterator[None]:
    """Hold the run's lock."""
    with ExitStack() as held:
        with preemption.leaving():
            held.enter_context(locked(lock_path(folder), wait=True))
        yield


@contextmanager
def locked_together(
    folder: Path, here: World, preemption: Preemption | None = None, *, wait: bool = True
) -> Iterator[None]:
    """The first of several processes holds the run's lock for all of them.

    Raises:
        UserError: another process has it and ``wait`` is not set.
    """
    path = lock_path(folder)
    while True:
        with ExitStack() as held:
            if here.run_on_main(partial(held.enter_context, locked(path, wait=False))):
                yield
                return
        if not wait:
            raise UserError(f"process {here.run_on_main(lambda: holder(path))} is working on {folder}")
        if preemption:
            preemption.check()
        time.sleep(LOCK_POLL_S)


def _note_failure(folder: Path, error: BaseException) -> None:
    """A run that failed before it could write a status still shows why."""
    if status(folder).get("state") == "failed":
        return
    lines = traceback.format_exception_only(error)[-1].strip().splitlines()[-3:]
    try:
        write_json(folder / "status.json", status(folder) | {"state": "failed", "error": lines})
    except OSError as full:
        print(f"the failure cannot be written into the run's folder: {full}", flush=True)


def end_with_parent() -> None:
    """Stop when the launcher is gone, even if it was killed without a chance to say so."""
    parent = int(os.environ.get("ENTROBENCH_PARENT", "0"))
    if not parent:
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
