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

from harness.errors import UserError
from harness.launch import INTERRUPTED, code_of, in_child
from harness.notice import Notice, Stopped
from harness.processes import launched_size, local_size
from harness.sweep.state import holder, lock_path, locked

if TYPE_CHECKING:
    from harness.parallel import World

#: Several processes look so often whether the lock of their run is free.
LOCK_POLL_S = 2.0


def work(job_file: str) -> int:
    """Carry out the job; returns 0 when the run is finished, 1 when it failed."""
    from harness.sweep.plan import read_job

    job = read_job(Path(job_file))
    if launched_size() > 1:
        return in_child(partial(_share, job))
    notice = Notice.from_environment()
    folder = Path(job["folder"])
    if job["config"]["train"].get("processes", 1) != 1:
        end_with_parent()
        return _launch(job, job_file, folder)
    notice.listen()
    end_with_parent()
    try:
        # Two sweeps may share a run: the second waits here and then finds it finished.
        with _alone(folder, notice):
            _execute(job, notice)
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
    from harness.launch import launch

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
    from harness import catalog
    from harness.config import from_dict

    return from_dict(job["config"], catalog.methods().load)


def _share(job: dict[str, Any]) -> int:
    """Carry out the job as one of several processes."""
    from harness.opening import device_of
    from harness.parallel import joined

    notice = Notice.from_environment()
    notice.listen(interrupts=True)
    end_with_parent()
    run = _run_of(job)
    local_size(run)  # whether these processes can share it
    with joined(device_of(run), notice) as here, locked_together(Path(job["folder"]), here, notice):
        _execute(job, notice)
    return 0


def _execute(job: dict[str, Any], notice: Notice) -> None:
    with notice.leaving():
        from transformers.utils.logging import disable_progress_bar

        from harness import runs

        disable_progress_bar()  # nobody watches a log
        run = _run_of(job)
    if job["role"] == "base":
        runs.evaluate_base(run, notice=notice)
    else:
        runs.execute(run, evaluate=bool(job["evaluate"]), notice=notice)


@contextmanager
def _alone(folder: Path, notice: Notice) -> Iterator[None]:
    """Hold the run's lock."""
    with ExitStack() as held:
        with notice.leaving():
            held.enter_context(locked(lock_path(folder), wait=True))
        yield


@contextmanager
def locked_together(
    folder: Path, here: World, notice: Notice | None = None, *, wait: bool = True
) -> Iterator[None]:
    """The first of several processes holds the run's lock for all of them.

    Raises:
        UserError: another process has it and ``wait`` is not set.
    """
    path = lock_path(folder)
    while True:
        with ExitStack() as held:
            if here.leaders(partial(held.enter_context, locked(path, wait=False))):
                yield
                return
        if not wait:
            raise UserError(f"process {here.leaders(lambda: holder(path))} is working on {folder}")
        if notice:
            notice.check()
        time.sleep(LOCK_POLL_S)


def _note_failure(folder: Path, error: BaseException) -> None:
    """A run that failed before it could write a status still shows why."""
    from harness.files import write_json
    from harness.runs import status

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
