"""A run's ``status.json``: what it is doing, and what stopped it."""

from __future__ import annotations

import os
import platform
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.files import read_json, write_json

Event = Callable[[dict[str, Any]], None]


def status(folder: Path) -> dict[str, Any]:
    """The run's status, ``{"state": "pending"}`` when it never started."""
    path = folder / "status.json"
    return dict(read_json(path)) if path.exists() else {"state": "pending"}


class Status:
    """``status.json``, replaced at every step."""

    def __init__(self, folder: Path, run: RunConfig, on_event: Event | None) -> None:
        self._path, self._on_event = folder / "status.json", on_event
        self._start = time.time()
        self._before = float(status(folder).get("elapsed_s", 0.0))
        self._values: dict[str, Any] = {
            "steps": run.train.steps, "token_budget": run.train.token_budget, "pid": os.getpid(),
            "host": platform.node(), "method": run.method_name, "seed": run.seed,
        }  # fmt: skip

    @property
    def elapsed_s(self) -> float:
        """Wall time over all starts of the run."""
        return self._before + time.time() - self._start

    def write(self, **values: Any) -> None:
        self._values |= values | {"elapsed_s": round(self.elapsed_s, 2), "updated_unix_s": time.time()}
        write_json(self._path, self._values)
        if self._on_event:
            self._on_event(dict(self._values))


@contextmanager
def reporting(report: Status) -> Iterator[None]:
    """Write to the status whatever stops the work."""
    report.write(state="running", phase="start", error=None)
    try:
        yield
    except KeyboardInterrupt:
        report.write(state="preempted", error=["interrupted; start it again to go on"])
        raise
    except BaseException as error:
        report.write(
            state="failed", error=traceback.format_exception_only(error)[-1].strip().splitlines()[-3:]
        )
        raise
