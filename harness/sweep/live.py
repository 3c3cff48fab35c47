"""What a person sees while runs go on: a live table on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.run.state import RunState
from harness.util.progress import HEARTBEAT_S, duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from harness.sweep.jobs import Job

REDRAW_S = 0.5
#: Phases that say nothing beyond a run's step.
_PLAIN = ("", "start", "starting", "train", "evaluate", "done")


@dataclass(frozen=True)
class RunningRun:
    """One running run."""

    label: str
    seed: int | None
    state: RunState

    @property
    def name(self) -> str:
        return self.label if self.seed is None else f"{self.label} seed {self.seed}"


@dataclass(frozen=True)
class Snapshot:
    """The whole sweep at one moment; ``eta_s`` is None while nothing is known."""

    rows: tuple[RunningRun, ...]
    total: int
    done: int
    failed: int
    waiting: int
    eta_s: float | None


class SweepDisplay(Protocol):
    """Shows progress."""

    def update(self, snapshot: Snapshot) -> None: ...

    def finished(self, job: Job, error: tuple[str, ...] | None, wall_s: float) -> None: ...


@contextmanager
def open_display(name: str) -> Iterator[SweepDisplay]:
    """A live table when standard output is a terminal, else a line now and then."""
    if not sys.stdout.isatty():
        yield PlainDisplay(name)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(), auto_refresh=False, transient=True) as live:
        yield LiveDisplay(name, live)


class PlainDisplay:
    """Lines for logs: one per finished run, and a heartbeat."""

    def __init__(self, name: str) -> None:
        self._name, self._last = name, 0.0

    def update(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        if now - self._last < HEARTBEAT_S:
            return
        self._last = now
        print(f"{self._name}: {totals(snapshot)}", flush=True)
        for row in snapshot.rows:
            print(f"  {row.name}: {sentence(row.state)}", flush=True)

    def finished(self, job: Job, error: tuple[str, ...] | None, wall_s: float) -> None:
        print(finished_line(job.name, error, wall_s), flush=True)


class LiveDisplay:
    """A table that is redrawn in place; finished runs scroll away above it."""

    def __init__(self, name: str, live: Live) -> None:
        self._name, self._live, self._last = name, live, 0.0

    def update(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        if now - self._last >= REDRAW_S:
            self._last = now
            self._live.update(table(self._name, snapshot), refresh=True)

    def finished(self, job: Job, error: tuple[str, ...] | None, wall_s: float) -> None:
        from rich.markup import escape

        style = "green" if error is None else "red"
        text = escape(finished_line(job.name, error, wall_s))
        self._live.console.print(f"[{style}]{text}[/{style}]", highlight=False)


def table(name: str, snapshot: Snapshot) -> RenderableType:
    """The live table."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table(title=f"{name}: {totals(snapshot)}", title_justify="left", box=None, padding=(0, 1, 0, 0))
    # On a narrow terminal the method's name is shortened, never a number.
    grid.add_column("method", no_wrap=True, min_width=8)
    widths = {"seed": 4, "step": 7, "": 10, "reward": 6, "entropy": 7, "probe": 5, "time left": 10}
    told = any(doing(row.state) for row in snapshot.rows)
    widths |= {"doing": 12} if told else {}
    for heading, width in widths.items():
        grid.add_column(heading, justify="right" if heading else "left", no_wrap=True, min_width=width)
    for row in snapshot.rows:
        s = row.state
        bar = ProgressBar(total=1.0, completed=s.fraction, width=10)
        seed = "" if row.seed is None else str(row.seed)
        signals = [number(value) for value in (s.reward, s.entropy, s.probe_entropy)]
        grid.add_row(
            row.label, seed, step_text(s), bar, *signals, duration(s.eta_s), *([doing(s)] if told else [])
        )  # fmt: skip
    return grid


def totals(snapshot: Snapshot) -> str:
    parts = [f"{snapshot.done} of {snapshot.total} done", f"{len(snapshot.rows)} running"]
    if snapshot.waiting:
        parts.append(f"{snapshot.waiting} waiting")
    if snapshot.failed:
        parts.append(f"{snapshot.failed} failed")
    if snapshot.eta_s is not None:
        parts.append(f"about {duration(snapshot.eta_s)} left")
    return ", ".join(parts)


def sentence(state: RunState) -> str:
    """A state as one plain line."""
    told = doing(state)
    parts = [] if told and state.phase.startswith("evaluate ") else [step_text(state)]
    parts += [told] if told else []
    for name in ("reward", "entropy", "probe_entropy"):
        value = getattr(state, name)
        if value is not None:
            parts.append(f"{name.replace('_', ' ')} {number(value)}")
    if state.eta_s:
        parts.append(f"{duration(state.eta_s)} left")
    return ", ".join(parts)


def doing(state: RunState) -> str:
    """What takes long just now: ``frontier 512/3904 responses, 3 min 20 s left``; else empty."""
    if state.state != "running" or state.phase in _PLAIN:
        return ""
    unit = f" {state.phase_unit}" if state.phase_unit else ""
    note = f" ({state.phase_note})" if state.phase_note else ""
    left = f", {duration(state.phase_eta_s)} left" if state.phase_eta_s is not None else ""
    return f"{state.phase}{unit}{note}{left}"


def step_text(state: RunState) -> str:
    if state.phase.startswith("evaluate "):
        return f"eval {state.phase.split()[-1]}"
    if not state.steps:
        return "starting"
    # A budget of generated tokens usually ends a run before its step limit: then the end is an estimate.
    expected = round(state.step / state.fraction) if state.fraction else state.steps
    return f"{state.step}/{state.steps}" if expected >= state.steps else f"{state.step}/~{expected}"


def finished_line(name: str, error: tuple[str, ...] | None, wall_s: float) -> str:
    head = f"{name}: "
    return head + (f"done in {duration(wall_s)}" if error is None else "FAILED: " + " | ".join(error))


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
