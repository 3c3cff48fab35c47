"""What was submitted: a file for each array of jobs, from which a job knows its run and ``status`` its jobs.

An array's file is written before it is submitted, and the job's name holds its id, so that a submitter that
dies in between leaves nothing behind that could not be found in the queue. Only JSON is read here.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.util.errors import UserError
from harness.util.files import read_json, write_json, write_text

RUNS, PROBE = "runs", "probe"


@dataclass(frozen=True)
class Task:
    """One job of an array: the run's name, its folder, the file its worker reads, and its log."""

    run_id: str
    folder: str
    job_file: str
    log: str
    threads: int


@dataclass(frozen=True)
class Array:
    """Jobs that are submitted together.

    Attributes:
        kind: ``runs`` or ``probe``.
        resources: those that a job itself needs: nodes, gpus, cpus, container, python, srun, requeue.
        after: id of the probe job that has to pass first.
        attempts: folder where each start and end of a job is noted.
    """

    id: str
    kind: str
    sweep: str
    created_unix_s: float
    tasks: tuple[Task, ...]
    resources: dict[str, Any]
    attempts: str
    after: str = ""

    @property
    def name(self) -> str:
        """The job's name in the queue."""
        return f"eb-{self.sweep}-{self.id}"


def new_array(kind: str, sweep: str, tasks: Iterable[Task], resources: dict[str, Any], folder: Path) -> Array:
    return Array(
        uuid.uuid4().hex[:8], kind, sweep, time.time(), tuple(tasks), resources, str(folder / "attempts")
    )


def array_file(folder: Path, array: Array) -> Path:
    return folder / "arrays" / f"{array.id}.json"


def write_array(folder: Path, array: Array) -> Path:
    path = array_file(folder, array)
    write_json(path, asdict(array))
    return path


def note_job(folder: Path, array: Array, job: str) -> None:
    """Remember the id that the cluster gave it."""
    write_text(array_file(folder, array).with_suffix(".job"), job)


def job_of(folder: Path, array: Array) -> str:
    """The cluster's id of ``array``; empty when its submission was cut off or refused."""
    path = array_file(folder, array).with_suffix(".job")
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def read_array(path: Path) -> Array:
    """
    Raises:
        UserError: the file is not one of ours.
    """
    try:
        raw = dict(read_json(path))
        return Array(**{**raw, "tasks": tuple(Task(**task) for task in raw["tasks"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"cannot read {path}: {error}; submit the sweep again") from error


def arrays_in(folder: Path) -> Iterator[Array]:
    """The arrays of a sweep, oldest first."""
    yield from sorted(map(read_array, (folder / "arrays").glob("*.json")), key=lambda a: a.created_unix_s)
