"""``entrobench sweep status``: what every run of a sweep is doing, once or again and again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.run.state import RunState
from harness.sweep.jobs import Job
from harness.sweep.launcher import Launcher
from harness.sweep.live import doing, number, step_text
from harness.sweep.sweep import Sweep
from harness.util.errors import UserError
from harness.util.progress import duration
from harness.util.words import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

WATCH_S = 2.0
#: Width of the table where there is no terminal.
WIDTH = 160
#: Columns of a terminal on which all metrics have room.
WIDE = 120


def show_status(sweep: Sweep, jobs: Sequence[Job], launcher: Launcher, watch: bool) -> int:
    """The table once, or again and again until nothing runs or waits."""
    if not jobs:
        raise UserError(f"{sweep.path} has no runs")
    found = launcher.status(jobs)
    if not watch:
        print_states(sweep, jobs, found, launcher.notes())
        return 0
    from rich.console import Console, Group
    from rich.live import Live

    console = Console()
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            lines = "\n".join([*launcher.notes(), totals(found)])
            live.update(Group(state_table(sweep, jobs, found, console.width), lines), refresh=True)
            if not any(state.state == "running" or state.queued for state in found):
                break
            time.sleep(WATCH_S)
            found = launcher.status(jobs)
    print()  # the live table ends without a line's end
    return 0


def print_states(
    sweep: Sweep, jobs: Sequence[Job], found: Sequence[RunState], notes: Sequence[str] = ()
) -> None:
    """The table, the notes of the launcher, and the totals."""
    from rich.console import Console

    console = Console() if Console().is_terminal else Console(width=WIDTH)
    console.print(state_table(sweep, jobs, found, console.width))
    for line in notes:
        print(line)
    print(totals(found))
    if any(state.state in ("failed", "lost") for state in found):
        print(f"what went wrong: entrobench sweep logs {sweep.path} RUN; "
              f"once mended: entrobench sweep retry {sweep.path}")  # fmt: skip


def totals(found: Sequence[RunState]) -> str:
    count = Counter(state.state for state in found)
    return f"{counted(len(found), 'run')}: " + ", ".join(f"{n} {state}" for state, n in sorted(count.items()))


def state_table(
    sweep: Sweep, jobs: Sequence[Job], found: Sequence[RunState], width: int = WIDTH
) -> RenderableType:
    """A row per run; a narrow terminal shows one metric instead of three."""
    from rich.table import Table
    from rich.text import Text

    grid = len({job.setting for job in jobs}) > 1
    cluster = any(state.job for state in found)
    told = any(doing(state) for state in found)
    table = Table(title=sweep.title or sweep.name, title_justify="left", box=None, pad_edge=False)
    metrics = ("reward", "entropy", "probe_entropy") if width >= WIDE else ("reward",)
    headings = ["row", *(["setting"] if grid else []), "seed", "state", "step"]
    headings += [name.partition("_")[0] for name in metrics]
    headings += [*(["elapsed"] if width >= WIDE else []), "left", *(["doing"] if told else [])]
    headings += [*(["node"] if cluster else []), "run"]
    for heading in headings:
        table.add_column(
            heading, no_wrap=heading != "run", overflow="fold", min_width=24 if heading == "run" else None
        )
    for job, state in zip(jobs, found, strict=True):
        running = state.state == "running"
        cells = [job.label, *([job.setting] if grid else []), "" if job.table_seed is None else str(job.seed)]
        cells += [state.state, _step(job, state)]
        cells += [number(getattr(state, name)) for name in metrics]
        cells += [duration(state.elapsed_s) if state.elapsed_s else ""] if width >= WIDE else []
        cells += [duration(state.eta_s) if running and state.eta_s else ""]
        cells += [doing(state)] if told else []
        cells += [state.node] if cluster else []
        table.add_row(*(Text(cell) for cell in [*cells, _why(job, state)]))
    return table


def _step(job: Job, state: RunState) -> str:
    """Where it is; an untrained model has no steps, and a job that is just starting has not told yet."""
    if state.phase == "starting" or (state.state == "running" and not state.steps):
        return "starting"
    trains = job.role != "base" or state.phase.startswith("evaluate ")
    return step_text(state) if state.steps and trains else ""


def _why(job: Job, state: RunState) -> str:
    """The run's name, and why it waits or what stopped it."""
    reason = f"({state.reason})" if state.reason else ""
    return " ".join(filter(None, [job.run_id, reason, " | ".join(state.error)]))
