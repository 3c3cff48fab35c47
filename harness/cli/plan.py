"""``entrobench sweep plan``: the runs of a sweep, what is done, what it costs. Plain text: it is quick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from harness.cli.measuring import measuring_notes
from harness.cli.memory import sweep_notes
from harness.run.state import RunState
from harness.sweep.budget import Cost, amount, costs, gpus_of, tokens_of, totals
from harness.sweep.controls import left_out
from harness.sweep.jobs import Backend, Job
from harness.sweep.plan import Ledger, table_name
from harness.sweep.slurm.preview import ID, PROBE_ID, scripts
from harness.sweep.sweep import Sweep
from harness.sweep.tuned import stale_words
from harness.util.words import counted

_HEADINGS = ("row", "role", "tuned", "seeds", "done", "state", "tokens a run", "hours a run")


def show_plan(
    sweep: Sweep, jobs: Sequence[Job], states: Sequence[RunState], backend: Backend, *, every: bool = False
) -> None:
    """Print a line per row of the leaderboard, or per run with ``every``; then the totals."""
    found = costs(sweep, jobs, states)
    lines: list[tuple[str, ...]] = []
    for setting, members in groupby(zip(jobs, states, found, strict=True), key=lambda item: item[0].setting):
        if setting != "default/default":
            lines.append((f"{setting}:",))
        rows = list(members)
        if every:
            lines += [_run_line(*item) for item in rows]
        else:
            key = [(job.role, job.label) for job, _, _ in rows]
            for name in dict.fromkeys(key):
                lines.append(_row_line([item for item, own in zip(rows, key, strict=True) if own == name]))
    unit = "GPU-hours a run" if gpus_of(sweep) else "hours a run"
    last = "run" if every else None
    print(sweep.title or sweep.name)
    _print_table(((*_HEADINGS[:-1], unit, *([last] if last else [])), *lines))
    for line in summary(sweep, jobs, states, found, backend):
        print(line)


def show_scripts(sweep: Sweep, jobs: Sequence[Job], book: Ledger) -> int:
    """Print the sbatch scripts that a submission to Slurm would queue for ``jobs``."""
    runs = counted(len(jobs), "run")
    print(f"# {sweep.name}: {runs} to start; {ID} and {PROBE_ID} are known once it is submitted")
    for what, text in scripts(sweep, jobs, book):
        print(f"\n# --- {what} ---\n{text}")
    return 0


def _row_line(rows: Sequence[tuple[Job, RunState, Cost]]) -> tuple[str, ...]:
    job = rows[0][0]
    count = Counter(state.state for _, state, _ in rows)
    rest = ", ".join(f"{n} {state}" for state, n in sorted(count.items()) if state != "done")
    seeds = " ".join(str(item.seed) for item, _, _ in rows) if job.table_seed is not None else ""
    return (
        job.label, job.role, _tuned(job), seeds, f"{count['done']} of {len(rows)}", rest, _tokens(job),
        _hours(_kept(cost for _, _, cost in rows)),
    )  # fmt: skip


def _run_line(job: Job, state: RunState, cost: Cost) -> tuple[str, ...]:
    seed = "" if job.table_seed is None else str(job.seed)
    done = "yes" if state.state == "done" else "no"
    rest = "" if state.state == "done" else state.state
    return job.label, job.role, _tuned(job), seed, done, rest, _tokens(job), _hours([cost]), job.run_id


def _tuned(job: Job) -> str:
    if job.role == "base":
        return ""
    return "no" if job.choice is None else "yes"


def _tokens(job: Job) -> str:
    number, known = tokens_of(job)
    return "" if not number else f"{'' if known else '<= '}{amount(number)}"


def _kept(found: Iterable[Cost]) -> list[Cost]:
    """Measured costs where there are any: their mean is what the others are expected to take."""
    every = list(found)
    return [cost for cost in every if cost.source == "measured"] or every


def _hours(found: Sequence[Cost]) -> str:
    known = [cost.hours for cost in found if cost.hours is not None]
    return f"{_number(sum(known) / len(known))} {found[0].source}" if known else "unknown"


def summary(
    sweep: Sweep, jobs: Sequence[Job], states: Sequence[RunState], found: Sequence[Cost], backend: Backend
) -> list[str]:
    """Runs by state, tokens, hours by source, what is not tuned, and what a recipe reproduces."""
    count = Counter(state.state for state in states)
    total = totals(jobs, states, found)
    lines = [
        f"{counted(len(jobs), 'run')}: " + ", ".join(f"{n} {state}" for state, n in sorted(count.items()))
    ]
    most = "" if total.bounded else "at most "
    lines.append(
        f"budget: {most}{amount(total.tokens)} generated tokens in training, "
        f"{amount(total.tokens_done)} of them in finished runs"
    )
    unit = "GPU-hours" if gpus_of(sweep) else "hours"
    if total.hours:
        words = {
            "measured": "measured in finished runs", "like finished runs": "expected from finished runs",
            "stated": "by the file's own estimate, not measured",
        }  # fmt: skip
        parts = [f"{_number(hours)} {words[source]}" for source, hours in total.hours.items()]
        rest = f"; unknown for {counted(total.unknown, 'run')}" if total.unknown else ""
        lines.append(f"{unit}: {_number(sum(total.hours.values()))} ({', '.join(parts)}){rest}")
    else:
        lines.append(f"{unit}: unknown until a run has finished (or give gpu_hours, an estimate of one run)")
    lines += measuring_notes(jobs)
    lines += sweep_notes(sweep, jobs)
    lines += tuning_notes(sweep, jobs)
    stale = stale_words(jobs, backend)
    if stale:
        lines.append(f"tuned with {stale}: tune again, entrobench sweep tune {sweep.path}")
    if sweep.reproduces:
        recipe = sweep.reproduces
        lines += [
            f"reproduces: {recipe.paper}",
            f"  result: {recipe.result}",
            f"  reported: {recipe.reported}",
        ]
        lines += [f"  differs: {line}" for line in recipe.differs]
    return lines


def tuning_notes(sweep: Sweep, jobs: Sequence[Job]) -> list[str]:
    """Rows that nothing was chosen for, and how to choose; none when all are tuned."""
    untuned = sorted({job.label for job in jobs if job.role == "method" and job.choice is None})
    waiting = left_out(sweep, [job.label for job in jobs])
    if not untuned:
        told = f"no temperature chosen yet for {', '.join(waiting)}: entrobench sweep tune {sweep.path}"
        return [told] if waiting else []
    lines = [f"untuned (not ranked): {', '.join(untuned)}"]
    if sweep.extra:
        lines[0] += f"; {' '.join(sweep.typed)} stands above what tuning chose"
    elif sweep.tuning:
        tuning = sweep.tuning
        a_place = sum(len(tuning.lrs) * len(tuning.knobs.get(m, ())) for m in sweep.methods)
        trials = len(sweep.tuning_grid) * a_place
        if tuning.lr_from:
            lines[0] += f"; without knobs a method runs at the rate of {table_name(tuning.lr_from)}"
            if not waiting and not {table_name(m) for m in tuning.tunes(sweep.methods)} & set(untuned):
                return lines
        if waiting:
            lines[0] += f"; left out until a temperature is chosen: {', '.join(waiting)}"
        grow = ", more where the best rate lies on an edge" if tuning.extend else ""
        lines.append(f"tune them first: entrobench sweep tune {sweep.path} ({trials} trials{grow})")
    return lines


def _number(value: float) -> str:
    """Three digits, or all of them from a thousand on."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _print_table(lines: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need to be; a line of one cell is a heading."""
    cells = [line for line in lines if len(line) > 1]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for line in lines:
        if len(line) == 1:
            print(f"\n{line[0]}")
        else:
            print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
