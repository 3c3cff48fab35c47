"""A run's ``status.json``: what it is doing, and what stopped it."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.config.schema import RunConfig
from harness.util import progress
from harness.util.files import read_json, write_json
from harness.util.progress import Phase

#: What a run that goes on still says before it has come to its next step.
_KEPT = ("step", "generated_tokens", "reward", "accuracy", "entropy", "probe_entropy")
#: What it says of a phase while that goes on.
_OF_PHASE = ("phase_done", "phase_total", "phase_unit", "phase_note", "phase_eta_s")
#: Seconds between two reports of how far a phase is: each is a file written to disk.
TELL_S = 2.0
Event = Callable[[dict[str, Any]], None]


def status(folder: Path) -> dict[str, Any]:
    """The run's status, ``{"state": "pending"}`` when it never started."""
    path = folder / "status.json"
    try:
        return dict(read_json(path)) if path.exists() else {"state": "pending"}
    except ValueError:  # written in place on a full disk by a process that was killed meanwhile
        return {"state": "pending"}


def _allocation() -> dict[str, str]:
    """The job of a cluster that this process belongs to, and its node as the cluster calls it."""
    own = os.environ
    if "SLURM_JOB_ID" not in own:
        return {"job": "", "node": platform.node()}
    array, task = own.get("SLURM_ARRAY_JOB_ID"), own.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else own["SLURM_JOB_ID"]
    return {"job": job, "node": own.get("SLURMD_NODENAME", platform.node())}


class Status:
    """``status.json``, replaced at every step, and every few seconds of whatever takes longer.

    Args:
        writes: false in all but the first of several processes, which say nothing.
    """

    def __init__(self, folder: Path, run: RunConfig, on_event: Event | None, *, writes: bool = True) -> None:
        self._writes = writes
        self._path, self._on_event = folder / "status.json", on_event
        self._start = time.time()
        self._told_s, self._took = float("-inf"), dict[str, float]()
        self._ends_s: float | None = None
        before = status(folder)
        self._before = float(before.get("elapsed_s", 0.0))
        self._values: dict[str, Any] = {
            **{key: before[key] for key in _KEPT if key in before},
            "steps": run.last_step, "token_budget": run.train.token_budget, "pid": os.getpid(),
            "host": platform.node(), "method": run.method_name, "seed": run.seed, **_allocation(),
        }  # fmt: skip

    @property
    def elapsed_s(self) -> float:
        """Wall time over all starts of the run."""
        return self._before + time.time() - self._start

    def write(self, **values: Any) -> None:
        if not self._writes:
            return
        if "phase" in values:
            self._values = {key: value for key, value in self._values.items() if key not in _OF_PHASE}
        self._values |= values | {"elapsed_s": round(self.elapsed_s, 2), "updated_unix_s": time.time()}
        self._told_s = time.monotonic()
        if "eta_s" in values:
            self._ends_s = self._told_s + values["eta_s"]
        try:
            write_json(self._path, self._values)
        except OSError:
            if self._values["state"] not in ("failed", "preempted"):
                raise  # a run that cannot write has failed, and says so below
            _overwrite(self._path, self._values)
        if self._on_event:
            self._on_event(dict(self._values))

    def hear(self, phase: Phase, event: progress.Event) -> None:
        """Write how far ``phase`` is, every :data:`TELL_S`; and its beginning, where it may take longer.

        A phase that announces itself is taken for long until it has been seen to be short.
        """
        now = time.monotonic()
        if event == "end":
            self._took[phase.name] = now - phase.began_s
            return
        if event == "begin":
            unknown = float("inf") if phase.announce else 0.0
            due = self._took.get(phase.name, unknown) > TELL_S
        else:
            due = now - self._told_s >= TELL_S
        if due and self._writes:
            left = {} if self._ends_s is None else {"eta_s": round(max(0.0, self._ends_s - now), 1)}
            self.write(state="running", **_told(phase), **left)


def _told(phase: Phase) -> dict[str, Any]:
    """A phase as the status has it."""
    if not phase.total:
        return {"phase": phase.name}
    told = {
        "phase": f"{phase.name} {phase.done}/{phase.total}", "phase_done": phase.done,
        "phase_total": phase.total, "phase_unit": phase.unit,
    }  # fmt: skip
    left_s = phase.left_s
    return (
        told
        | ({"phase_note": phase.note} if phase.note else {})
        | ({"phase_eta_s": round(left_s, 1)} if left_s is not None else {})
    )


def _overwrite(path: Path, values: dict[str, Any]) -> None:
    """The last resort on a full disk: over the bytes that the status has there, which takes no new block."""
    text = json.dumps(values, sort_keys=True)
    try:
        with open(path, "r+", encoding="utf-8") as handle:
            handle.write(text)
            handle.truncate()
    except OSError as error:
        print(f"{path} cannot be written either ({error}); it would say: {text}", file=sys.stderr)


@contextmanager
def reporting(report: Status, echo: Callable[[BaseException], bool] = lambda error: False) -> Iterator[None]:
    """Write to the status whatever stops the work.

    Args:
        echo: whether an error only says that another process of the run is gone.
    """
    try:
        report.write(state="running", phase="start", error=None)
        with progress.listening(report.hear):
            yield
    except KeyboardInterrupt as stop:
        why = str(stop) or "interrupted"
        report.write(state="preempted", error=[f"{why}; it goes on from there when it is started again"])
        raise
    except BaseException as error:
        if echo(error):  # of several processes another one knows why, and the launcher will say it
            report.write(error=["another process of this run ended; it goes on when it is started again"])
            raise
        report.write(
            state="failed", error=traceback.format_exception_only(error)[-1].strip().splitlines()[-3:]
        )
        raise
