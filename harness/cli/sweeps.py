"""``entrobench sweep VERB FILE key=value …``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.plan import show_plan
from harness.errors import UserError
from harness.prefetch import check_present
from harness.sweep.jobs import Job, Runs
from harness.sweep.launcher import Launcher, open_launcher
from harness.sweep.live import duration, number, step_text
from harness.sweep.plan import Ledger, ledger, plan, states
from harness.sweep.spec import Sweep, load_sweep
from harness.sweep.state import BROKEN, SETTLED, RunState
from harness.sweep.tuned import refuse_stale

if TYPE_CHECKING:
    from rich.table import Table

WATCH_S = 2.0


def run_verb(verb: str, file: str, options: Sequence[str], watch: bool = False, runs: bool = False) -> int:
    """Carry out one verb of ``entrobench sweep``; returns the exit code."""
    sweep = load_sweep(Path(file), options)
    if verb == "tune":
        return tune(sweep)
    if verb == "collect":
        return collect_records(sweep)
    book = ledger(sweep)
    backend = Runs()
    if verb == "plan":  # from files alone: a plan needs neither the launcher nor its cluster
        jobs = plan(sweep, backend)
        show_plan(sweep, jobs, states(jobs, book), backend, every=runs)
        return 0
    launcher = open_launcher(sweep, book)
    jobs = plan(sweep, backend)
    if verb in ("submit", "retry"):
        refuse_stale(sweep, jobs, backend)
        check_present((job.config for job in jobs), f"entrobench prefetch {file}")
    if verb == "status":
        return show_status(sweep, jobs, launcher, watch)
    if verb == "cancel":
        count = launcher.cancel(jobs)
        print(f"{sweep.name}: stopping {count} running" if count else f"{sweep.name}: nothing is running")
        return 0
    return submit(sweep, jobs, launcher, book, retry=verb == "retry")


def submit(sweep: Sweep, jobs: Sequence[Job], launcher: Launcher, book: Ledger, *, retry: bool) -> int:
    """Start what needs work: with ``retry`` the failed and lost runs, else all others that are not done."""
    found = launcher.status(jobs)
    chosen = [
        job for job, state in zip(jobs, found, strict=True)
        if (state.state in BROKEN if retry else state.state not in SETTLED)
    ]  # fmt: skip
    count = Counter(state.state for state in found)
    if not retry and count["failed"]:
        print(f"{count['failed']} failed earlier; start them again with: entrobench sweep retry {sweep.path}")
    if not chosen:
        what = "failed or lost" if retry else f"left to start: {count['done']} of {len(jobs)} done"
        print(f"{sweep.name}: nothing {what}" + (f", {count['running']} running" if count["running"] else ""))
        return 1 if count["failed"] and not retry else 0
    print(f"{sweep.name}: starting {len(chosen)} of {len(jobs)} runs, {count['done']} done", flush=True)
    start = time.monotonic()
    book.record(jobs)
    outcome = launcher.submit(chosen)
    if outcome.failed:
        print(f"{sweep.name}: {len(outcome.failed)} of {outcome.started} runs failed:")
        for run_id, lines in outcome.failed.items():
            print(f"  {run_id}: {' | '.join(lines)}")
        return 1
    print(f"{sweep.name}: {outcome.started} runs finished in {duration(time.monotonic() - start)}")
    return 0


def tune(sweep: Sweep) -> int:
    """Run the trials that are missing; once all are there, write the choice."""
    from harness.sweep.tune import trials, write_choice

    if sweep.extra:
        raise UserError(
            f"tuning with {' '.join(sweep.extra)} would choose for other runs than the file's; "
            "write the setting into the sweep file, or into a copy of it"
        )
    backend = Runs()
    found = trials(sweep, backend)
    jobs = [trial.job for trial in found]
    book = ledger(sweep, "tuning")
    launcher = open_launcher(sweep, book)
    # A trial that failed is tried again: the choice needs all of them.
    chosen = [
        j for j, s in zip(jobs, launcher.status(jobs), strict=True) if s.state not in ("done", "running")
    ]
    if chosen:
        print(f"{sweep.name}: {len(jobs)} trials, {len(jobs) - len(chosen)} done", flush=True)
        book.record(jobs)
        launcher.submit(chosen)
    left = [j for j, s in zip(jobs, launcher.status(jobs), strict=True) if s.state != "done"]
    if left:
        print(f"{sweep.name}: {len(left)} of {len(jobs)} trials are not finished, so nothing is chosen yet:")
        for job in left[:5]:
            print(f"  {job.label}: {job.run_id}")
        return 1
    path = write_choice(sweep, found, backend)
    print(f"{sweep.name}: wrote the choice of {len(sweep.methods)} methods to {path}")
    return 0


def collect_records(sweep: Sweep) -> int:
    from harness.sweep.collect import collect, told

    backend = Runs()
    collected = collect(sweep, plan(sweep, backend), backend)
    for line in told(collected):
        print(line)
    there = len(collected.records)
    print(f"{collected.path}: {there} records ({collected.new} new) of {collected.planned} planned runs")
    return 1 if collected.damaged else 0


def show_status(sweep: Sweep, jobs: Sequence[Job], launcher: Launcher, watch: bool) -> int:
    """The table once, or again and again until nothing runs."""
    found = launcher.status(jobs)
    if not watch:
        print_states(sweep, jobs, found)
        return 0
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            live.update(state_table(sweep, jobs, found), refresh=True)
            if not any(state.state == "running" for state in found):
                return 0
            time.sleep(WATCH_S)
            found = launcher.status(jobs)


def print_states(sweep: Sweep, jobs: Sequence[Job], found: Sequence[RunState]) -> None:
    from rich.console import Console

    if not jobs:
        raise UserError(f"{sweep.path} has no runs")
    console = Console() if Console().is_terminal else Console(width=150)
    console.print(state_table(sweep, jobs, found))
    count = Counter(state.state for state in found)
    print(f"{len(jobs)} runs: " + ", ".join(f"{n} {state}" for state, n in sorted(count.items())))


def state_table(sweep: Sweep, jobs: Sequence[Job], found: Sequence[RunState]) -> Table:
    """A row per run."""
    from rich.table import Table

    table = Table(title=sweep.title or sweep.name, title_justify="left", box=None, pad_edge=False)
    for heading in "row role seed state step reward entropy probe elapsed left run".split():
        table.add_column(heading, no_wrap=heading != "run")
    for job, state in zip(jobs, found, strict=True):
        table.add_row(
            job.label, job.role, "" if job.table_seed is None else str(job.seed), state.state,
            step_text(state) if state.steps else "", number(state.reward), number(state.entropy),
            number(state.probe_entropy), duration(state.elapsed_s) if state.elapsed_s else "",
            duration(state.eta_s) if state.state == "running" else "", " ".join([job.run_id, *state.error]),
        )  # fmt: skip
    return table
