"""``entrobench sweep VERB FILE key=value …``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.cli.memory import sweep_notes
from harness.cli.plan import show_plan, show_scripts, tuning_notes
from harness.cli.states import print_states, show_status, totals
from harness.records.trial import TRIALS
from harness.run.state import needs_retry, needs_start
from harness.sweep.collect import collect, told
from harness.sweep.jobs import Job, Runs
from harness.sweep.launcher import Launcher, LaunchOutcome, open_launcher
from harness.sweep.plan import Ledger, ledger, plan, states
from harness.sweep.prefetch import check_present
from harness.sweep.prompts import left_out
from harness.sweep.recorded import RECORDS, with_records
from harness.sweep.spec import load_sweep
from harness.sweep.sweep import Sweep
from harness.sweep.temperatures import samplings, trained_first, write_temperatures
from harness.sweep.trial_records import collect_trials
from harness.sweep.tune import trials, untried, write_choice
from harness.sweep.tuned import refuse_stale
from harness.util.errors import UserError, unknown
from harness.util.progress import duration
from harness.util.words import counted

#: Lines of each log file that ``sweep logs`` shows.
LOG_LINES = 60


def run_verb(
    verb: str, file: str, options: Sequence[str], watch: bool = False, runs: bool = False, run: str = "",
    script: bool = False, replace: bool = False, anew: bool = False,
) -> int:  # fmt: skip
    """Carry out one verb of ``entrobench sweep``; returns the exit code."""
    sweep = load_sweep(Path(file), options)
    if verb == "tune":
        return tune(sweep)
    if verb == "collect":
        return collect_records(sweep, replace)
    book = ledger(sweep)
    backend = Runs()
    if verb == "plan":  # from files alone: a plan needs neither the launcher nor its cluster
        jobs = plan(sweep, backend)
        found = with_records(sweep, jobs, states(jobs, book))
        if script:
            return show_scripts(sweep, [j for j, s in zip(jobs, found, strict=True) if needs_start(s)], book)
        show_plan(sweep, jobs, found, backend, every=runs)
        return 0
    launcher = open_launcher(sweep, book)
    jobs = plan(sweep, backend)
    if verb in ("submit", "retry"):
        refuse_stale(sweep, jobs, backend)
        check_present((job.config for job in jobs), f"entrobench prefetch {file}")
        for line in left_out(job.config for job in jobs):
            print(f"{sweep.name}: {line}")
        if sweep.tuning:
            for line in tuning_notes(sweep, jobs):
                print(line)
    if verb == "status":
        code = show_status(sweep, jobs, launcher, watch)
        _tell_of_trials(sweep)
        return code
    if verb == "logs":
        return show_logs(sweep, jobs, launcher, run)
    if verb == "cancel":
        return cancel(sweep, jobs, launcher)
    return submit(sweep, jobs, launcher, book, retry=verb == "retry", anew=anew)


def submit(
    sweep: Sweep, jobs: Sequence[Job], launcher: Launcher, book: Ledger, *, retry: bool, anew: bool = False
) -> int:
    """Start what needs work: with ``retry`` the failed, lost and stopped runs, else all that are not done.

    Args:
        anew: make runs that only the records hold here once more.
    """
    found = launcher.status(jobs)
    chosen = [
        job for job, state in zip(jobs, found, strict=True)
        if (needs_retry(state) if retry else needs_start(state) and state.state != "failed")
        or (anew and state.state == "recorded")
    ]  # fmt: skip
    running = [job for job, state in zip(jobs, found, strict=True) if state.state == "running"]
    shared = [] if retry else launcher.elsewhere(running)
    count = Counter("waiting" if s.queued and s.state != "running" else s.state for s in found)
    if not retry and count["failed"]:
        print(f"{count['failed']} failed earlier; start them again with: entrobench sweep retry {sweep.path}")
    if not chosen and not shared:
        done = f"{count['done']} of {len(jobs)} done{_recorded(count, sweep)}"
        what = "failed or lost" if retry else f"left to start: {done}"
        others = [f"{count[state]} {state}" for state in ("running", "waiting") if count[state]]
        print(f"{sweep.name}: nothing {', '.join([what, *others])}")
        return 1 if count["failed"] and not retry else 0
    for line in [*launcher.notes(), *_memory_notes(sweep, chosen)]:
        print(f"{sweep.name}: {line}")
    awaited = f", waiting for {len(shared)} that another process makes" if shared else ""
    done = f"{count['done']} done{'' if anew else _recorded(count, sweep)}"
    print(f"{sweep.name}: starting {len(chosen)} of {counted(len(jobs), 'run')}, {done}{awaited}", flush=True)
    start = time.monotonic()
    book.record(jobs)
    outcome = launcher.submit([*chosen, *shared])
    if outcome.queued:
        return _tell_queued(sweep, outcome, f"entrobench sweep status {sweep.path}")
    if outcome.failed:
        print(f"{sweep.name}: {len(outcome.failed)} of {counted(outcome.started, 'run')} failed:")
        for run_id, lines in outcome.failed.items():
            print(f"  {run_id}: {' | '.join(lines)}")
        return 1
    runs, took = counted(outcome.started, "run"), duration(time.monotonic() - start)
    print(f"{sweep.name}: {runs} finished in {took}; "
          f"take them into the records: entrobench sweep collect {sweep.path}")  # fmt: skip
    return 0


def _recorded(count: Counter[str], sweep: Sweep) -> str:
    """What to say of runs that are not made because their records are there."""
    if not count["recorded"]:
        return ""
    where = sweep.results / RECORDS
    return f", {count['recorded']} recorded (in {where}; --anew makes them here once more)"


def _memory_notes(sweep: Sweep, jobs: Sequence[Job]) -> list[str]:
    """What would not fit the GPUs that Slurm is asked for; said before it is asked."""
    return sweep_notes(sweep, jobs) if sweep.launcher == "slurm" else []


def _tell_queued(sweep: Sweep, outcome: LaunchOutcome, watch: str) -> int:
    if not outcome.started:
        print(f"{sweep.name}: nothing queued: another submitter has just taken them all")
    else:
        print(
            f"{sweep.name}: queued {counted(outcome.started, 'run')} as {outcome.note}; watch them: {watch}"
        )
    return 0


def cancel(sweep: Sweep, jobs: Sequence[Job], launcher: Launcher) -> int:
    """Stop the runs, and the trials if it is tuned just now."""
    count = launcher.cancel(jobs)
    trials, tuning = _trials(sweep)
    if tuning is not None:
        count += tuning.cancel(trials)
    what = "running or waiting" if any(s.queued for s in launcher.status(jobs)) else "running"
    print(f"{sweep.name}: stopping {counted(count, 'run')}" if count else f"{sweep.name}: nothing is {what}")
    return 0


def show_logs(sweep: Sweep, jobs: Sequence[Job], launcher: Launcher, run: str) -> int:
    """The last lines of what a run printed; ``run`` begins its name, e.g. ``grpo-s1``."""
    trials, tuning = _trials(sweep)
    found = [(job, launcher) for job in jobs] + [(job, tuning or launcher) for job in trials]
    matching = {job.run_id: pair for pair in found for job in pair[:1] if job.run_id.startswith(run)}
    if not matching:
        raise unknown("run", run, [job.run_id for job, _ in found])
    if len(matching) > 1 and run not in matching:
        some = ", ".join(list(matching)[:5])
        raise UserError(f"{len(matching)} runs begin with '{run}': {some} …; write more of the name")
    job, owner = matching.get(run) or next(iter(matching.values()))
    files = owner.logs(job)
    if not files:
        raise UserError(f"{job.run_id} has no log yet; see: entrobench sweep status {sweep.path}")
    for path in files:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        print(f"==> {path} (last {min(len(lines), LOG_LINES)} of {len(lines)} lines)")
        print("\n".join(lines[-LOG_LINES:]))
    return 0


def _trials(sweep: Sweep) -> tuple[list[Job], Launcher | None]:
    """The trials of the sweep's tuning and their launcher, if it was ever begun."""
    book = ledger(sweep, "tuning")
    if sweep.tuning is None or sweep.extra or not book.folder.exists():
        return [], None
    return [trial.job for trial in trials(sweep, Runs())], open_launcher(sweep, book)


def _tell_of_trials(sweep: Sweep) -> None:
    trials, launcher = _trials(sweep)
    if launcher is not None and not sweep.tuned_path.exists():
        print(f"tuning: {totals(launcher.status(trials))}; see them: entrobench sweep tune {sweep.path}")


def tune(sweep: Sweep) -> int:
    """Run the trials that are missing and write the choice; then the same for sampling temperatures.

    What the tuned file holds already is not tried again.
    """
    if sweep.extra:
        raise UserError(
            f"tuning with {' '.join(sweep.typed)} would choose for other runs than the file's; "
            "write the setting into the sweep file, or into a copy of it"
        )
    backend = Runs()
    every = trials(sweep, backend)
    found = untried(sweep, every)
    while found:
        code = _carry_out(sweep, [trial.job for trial in found], "trials")
        if code is not None:
            return code
        known, every = len(every), trials(sweep, backend)
        if len(every) == known:
            break
        print(f"{sweep.name}: {len(every) - known} more, where the best rate lies on the grid's edge")
        found = untried(sweep, every)
    if found:
        path = write_choice(sweep, found, backend)
        methods = {trial.method for trial in found}
        print(f"{sweep.name}: wrote the choice of {len(methods)} methods to {path}")
    sampled = samplings(sweep, backend)
    for jobs, what in (
        (trained_first(sampled, every), "chosen trials"),
        ([sampling.job for sampling in sampled], "temperatures"),
    ):
        code = _carry_out(sweep, jobs, what) if jobs else None
        if code is not None:
            return code
    if sampled:
        path = write_temperatures(sweep, sampled, backend)
        print(f"{sweep.name}: wrote the sampling temperatures to {path}")
    elif not found:
        print(f"{sweep.name}: nothing left to try; {sweep.tuned_path} has it all")
    return 0


def _carry_out(sweep: Sweep, jobs: Sequence[Job], what: str) -> int | None:
    """Start those of ``jobs`` that are not done; an exit code where they have to be waited for, or failed."""
    book = ledger(sweep, "tuning")
    launcher = open_launcher(sweep, book)
    # One that failed is tried again: the choice needs all of them.
    states = launcher.status(jobs)
    chosen = [j for j, s in zip(jobs, states, strict=True) if needs_start(s)]
    shared = launcher.elsewhere([j for j, s in zip(jobs, states, strict=True) if s.state == "running"])
    if chosen or shared:
        check_present((job.config for job in chosen), f"entrobench prefetch {sweep.path}")
        for line in left_out(job.config for job in chosen):
            print(f"{sweep.name}: {line}")
        done = sum(s.state == "done" for s in states)
        for line in _memory_notes(sweep, chosen):
            print(f"{sweep.name}: {line}")
        others = f", waiting for {len(shared)} that another process makes" if shared else ""
        print(f"{sweep.name}: {len(jobs)} {what}, {done} done, starting {len(chosen)}{others}", flush=True)
        book.record(jobs)
        outcome = launcher.submit([*chosen, *shared])
        if outcome.queued:
            again = f"entrobench sweep tune {sweep.path}, which goes on once all are done"
            return _tell_queued(sweep, outcome, again)
    states = launcher.status(jobs)
    if any(state.queued for state in states):
        print_states(sweep, jobs, states, launcher.notes())
        print(f"nothing is chosen before all {what} are done; then run the same command again")
        return 0
    left = [j for j, s in zip(jobs, states, strict=True) if s.state != "done"]
    if left:
        print(f"{sweep.name}: {len(left)} of {len(jobs)} {what} are not finished, so nothing is chosen yet:")
        for job in left[:5]:
            print(f"  {job.label}: {job.run_id}")
        return 1
    return None


def collect_records(sweep: Sweep, replace: bool = False) -> int:
    """Take finished runs into the records, and say what that did to those that were there."""
    backend = Runs()
    collected = collect(sweep, plan(sweep, backend), backend, replace=replace)
    for line in told(collected):
        print(line)
    counts = f"{collected.new} new"
    counts += f", {collected.updated} updated" if collected.updated else ""
    counts += f", {len(collected.rivals)} replaced" if collected.replaced and collected.rivals else ""
    there = len(collected.records)
    print(f"{collected.path}: {there} records ({counts}) of {collected.planned} planned runs")
    tried, fresh = collect_trials(sweep)
    if tried:
        print(f"{sweep.results / TRIALS}: {tried} tuning trials ({fresh} new)")
    return 0 if collected.whole else 1
