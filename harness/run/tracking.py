"""A live copy of ``metrics.jsonl`` elsewhere, for those who ask for it (``train.tracking``).

``metrics.jsonl`` stays the truth: the copy is made from its rows, nothing is read back, and a copy that fails
is given up with a warning while the run goes on.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from harness.config.schema import RunConfig
from harness.distributed.world import world
from harness.records.record import RunResult

Row = Mapping[str, Any]


class Tracker(Protocol):
    """Where rows are copied to; any of its calls may fail."""

    def send(self, row: Row) -> None:
        """Copy a row, unless it is there already from before an interruption."""

    def summarise(self, result: RunResult) -> None:
        """Copy the outcome of the finished run."""

    def close(self) -> None: ...


def _wandb(run: RunConfig, folder: Path) -> Tracker:
    from harness.run.tracking_wandb import WandbTracker

    return WandbTracker(run, folder)


#: Name in ``train.tracking`` -> what opens it.
MIRRORS: Mapping[str, Callable[[RunConfig, Path], Tracker]] = {"wandb": _wandb}


class Copy:
    """What a run tells; silent without a tracker, and after one has failed."""

    def __init__(self, tracking: Tracker | None) -> None:
        self._tracking = tracking

    def send(self, row: Row) -> None:
        self._try(lambda tracking: tracking.send(row))

    def summarise(self, result: RunResult) -> None:
        self._try(lambda tracking: tracking.summarise(result))

    def close(self) -> None:
        self._try(lambda tracking: tracking.close())

    def _try(self, what: Callable[[Tracker], None]) -> None:
        if self._tracking is None:
            return
        try:
            what(self._tracking)
        except Exception as error:  # whatever a service and its client come up with
            self._tracking = None
            warnings.warn(f"the tracker is given up, the run goes on: {error}", stacklevel=2)


@contextmanager
def tracked(run: RunConfig, folder: Path) -> Iterator[Copy]:
    """Open the tracker that ``run`` asks for, bring it up to date with ``metrics.jsonl``, and close it.

    Raises:
        UserError: its package is not installed.
    """
    name = run.train.tracking
    copy = Copy(MIRRORS[name](run, folder) if name and world().is_main else None)
    log = folder / "metrics.jsonl"
    try:
        if log.exists() and name:
            for line in log.read_text(encoding="utf-8").splitlines():
                copy.send(json.loads(line))
        yield copy
    finally:
        copy.close()
