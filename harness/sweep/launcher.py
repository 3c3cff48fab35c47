"""Where the runs of a sweep go. A launcher is one class here and one line in ``_LAUNCHERS``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol

from harness.run.state import RunState
from harness.sweep.jobs import Job
from harness.sweep.plan import Ledger
from harness.sweep.sweep import Sweep
from harness.util.errors import unknown

#: Launcher name -> its class; imported when it is used.
_LAUNCHERS = {
    "local": "harness.sweep.local:LocalLauncher",
    "slurm": "harness.sweep.slurm.launcher:SlurmLauncher",
}


@dataclass(frozen=True)
class LaunchOutcome:
    """What a submission did.

    Attributes:
        started: how many runs it took on.
        failed: those it saw fail (run id -> last lines).
        queued: they are in a queue now, and not finished.
        note: what else to tell about it.
    """

    started: int
    failed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    queued: bool = False
    note: str = ""


class Launcher(Protocol):
    """Takes runs to where they are computed.

    ``submit`` may return at once or when the runs are finished; either way what it was given is never
    started twice, and a run is found again from its folder, so a launcher keeps no state of its own.
    """

    def submit(self, jobs: Sequence[Job]) -> LaunchOutcome:
        """Start ``jobs``."""

    def status(self, jobs: Sequence[Job]) -> list[RunState]:
        """The state of each job, from its files and from what the launcher knows besides."""

    def cancel(self, jobs: Sequence[Job]) -> int:
        """Stop what is running of ``jobs``; returns how many."""

    def elsewhere(self, running: Sequence[Job]) -> list[Job]:
        """Of the ``running`` runs those that somebody else makes and that ``submit`` can wait for: it takes
        them on like the others, and carries one on where it was left unfinished."""

    def notes(self) -> list[str]:
        """What the last :meth:`status` has to say besides the states, a line each."""

    def logs(self, job: Job) -> list[Path]:
        """The log files of a run that exist."""


def open_launcher(sweep: Sweep, book: Ledger) -> Launcher:
    """The sweep's launcher.

    Raises:
        UserError: unknown launcher, or resources that it does not know.
    """
    if sweep.launcher not in _LAUNCHERS:
        raise unknown("launcher", sweep.launcher, _LAUNCHERS)
    module, _, name = _LAUNCHERS[sweep.launcher].partition(":")
    launcher: Launcher = getattr(import_module(module), name)(sweep, book)
    return launcher
