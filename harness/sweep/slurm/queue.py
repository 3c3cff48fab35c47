"""What the cluster knows of the jobs: ``squeue`` while they live, then ``sacct``, where there is any."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from harness.util.errors import UserError

#: Longest wait for a command of Slurm.
PATIENCE_S = 60
#: Job names of one squeue call; a command line has its limits.
NAMES_PER_CALL = 200
_FORMAT = "%j|%F|%K|%T|%r|%N|%S|%e"


class QueueError(Exception):
    """Slurm did not answer; the message is its own."""


@dataclass(frozen=True)
class QueuedJob:
    """One job in the queue, or running.

    Attributes:
        name, index: array and place in it; 0 for a job that is no array.
        job: how the cluster's commands call it, e.g. ``12_3``.
        state: PENDING, RUNNING, COMPLETING ….
        reason: why it waits.
    """

    name: str
    index: int
    job: str
    state: str
    reason: str
    node: str
    start_unix_s: float | None
    end_unix_s: float | None

    @property
    def waiting(self) -> bool:
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")


@dataclass(frozen=True)
class Ended:
    """What accounting says of a job that is over."""

    state: str
    node: str


def require_slurm() -> None:
    """
    Raises:
        UserError: Slurm is not installed on this machine.
    """
    if not shutil.which("sbatch"):
        raise UserError("no sbatch on this machine, so launcher=slurm cannot submit; use launcher=local here")


def run(*command: str) -> str:
    """The output of a command of Slurm.

    Raises:
        QueueError: it is not there, failed or did not answer.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except FileNotFoundError as error:
        raise QueueError(f"no {command[0]} on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise QueueError(f"{command[0]} did not answer within {PATIENCE_S} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise QueueError(f"{command[0]}: {lines[-1]}")
    return done.stdout


def live(names: Sequence[str]) -> list[QueuedJob]:
    """The jobs of these names that wait or run, one entry for each job of an array.

    Raises:
        QueueError: squeue did not answer.
    """
    found = []
    for start in range(0, len(names), NAMES_PER_CALL):
        some = ",".join(names[start : start + NAMES_PER_CALL])
        for line in run("squeue", "-h", "-r", "-a", f"--name={some}", "-o", _FORMAT).splitlines():
            found.append(_entry(line))
    return found


def _entry(line: str) -> QueuedJob:
    name, array, task, state, reason, node, start, end = line.split("|")
    index = int(task) if task.isdigit() else 0
    job = f"{array}_{task}" if task.isdigit() else array
    return QueuedJob(name, index, job, state, reason, node, unix_s(start), unix_s(end))


def ended(jobs: Iterable[str]) -> dict[str, Ended]:
    """By job what accounting has of the jobs ``12_3``.

    Raises:
        QueueError: there is no accounting, or it did not answer.
    """
    from submitit.slurm.slurm import SlurmInfoWatcher

    numbers = sorted({job.partition("_")[0] for job in jobs})
    if not numbers:
        return {}
    text = run("sacct", "-X", "-j", ",".join(numbers), "-o", "JobID,State,NodeList", "--parsable2")
    rows = SlurmInfoWatcher().read_info(text)  # it knows the ranges 12_[3-9] of jobs that never started
    return {job: Ended(row["State"], row["NodeList"]) for job, row in rows.items()}


def setting(name: str, default: int) -> int:
    """A number of the cluster's configuration, e.g. ``MaxArraySize`` or ``KillWait`` (seconds)."""
    for line in run("scontrol", "show", "config").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == name:
            return int(value.split()[0])
    return default


def end_of_allocation(job: str) -> float | None:
    """When the wall limit of ``job`` falls, in seconds since the epoch; None when it is not known."""
    try:
        return unix_s(run("squeue", "-h", "-j", job, "-o", "%e").strip())
    except QueueError:
        return None


def unix_s(text: str) -> float | None:
    """Slurm's local time stamps; None for ``N/A``."""
    try:
        return time.mktime(datetime.fromisoformat(text).timetuple())
    except ValueError:
        return None
