"""``entrobench _worker JOB``: one run in a process of its own, started by a launcher."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from harness.notice import ALLOCATION_ENDS, Notice, Stopped
from harness.sweep.state import lock_path, locked

#: Exit codes besides 0 and 1 (failed): stopped in good order to go on in another allocation; told to stop.
ANOTHER_ALLOCATION, TOLD_TO_STOP = 75, 143


def work(job_file: str) -> int:
    """Carry out the job; returns 0 when the run is finished, 1 when it failed."""
    from harness.sweep.plan import read_job

    job = read_job(Path(job_file))
    notice = Notice.from_environment()
    notice.listen()
    _end_with_parent()
    folder = Path(job["folder"])
    try:
        # Two sweeps may share a run: the second waits here and then finds it finished.
        with _alone(folder, notice):
            _execute(job, notice)
    except Stopped as stop:
        print(f"stopped: {stop}", flush=True)
        return ANOTHER_ALLOCATION if str(stop) == ALLOCATION_ENDS else TOLD_TO_STOP
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        traceback.print_exc()
        _note_failure(folder, error)
        return 1
    return 0


def _execute(job: dict[str, Any], notice: Notice) -> None:
    with notice.leaving():
        from transformers.utils.logging import disable_progress_bar

        from harness import catalog, runs
        from harness.config import from_dict

        disable_progress_bar()  # nobody watches a log
        run = from_dict(job["config"], catalog.methods().load)
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


def _end_with_parent() -> None:
    """Stop when the launcher is gone, even if it was killed without a chance to say so."""
    parent = int(os.environ.get("ENTROBENCH_PARENT", "0"))
    if not parent:
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
