"""The live line of a single run on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from harness.run.state import state_of
from harness.sweep.live import RunningRun, Snapshot, table


class LiveLine:
    """A context manager whose value takes every status the run writes."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.live import Live

        self._name = name
        self._live = Live(console=Console(), refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveLine:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, status: dict[str, Any]) -> None:
        row = RunningRun(self._name, int(status.get("seed") or 0), state_of(status, str(status.get("state"))))
        self._live.update(table("run", Snapshot((row,), 1, 0, 0, 0, row.state.eta_s)))
