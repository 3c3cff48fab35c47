"""``entrobench report --readme FILE``: tables between markers, made from plans and committed records.

A marker is a comment of its own line, ``<!-- table: sweeps/x.yaml -->``, and the table goes on to
``<!-- end of table -->``. Paths are relative to the file. Nothing is read from this machine's runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.records.load import load_records
from harness.records.record import Record
from harness.report.analysis.levels import POWER
from harness.report.data.grid import by_setting
from harness.report.data.head import expected_of, read_head
from harness.report.render.text import legend_of, short_table
from harness.report.tables.build import build_report
from harness.report.tables.columns import DASH, percent
from harness.report.tables.explain import trainings
from harness.run.state import RunState
from harness.sweep.budget import costs
from harness.sweep.jobs import Runs
from harness.sweep.plan import make_plan
from harness.sweep.recorded import RECORDS
from harness.sweep.spec import load_sweep
from harness.util.errors import UserError
from harness.util.files import write_text

if TYPE_CHECKING:
    from harness.sweep.jobs import Job
    from harness.sweep.sweep import Sweep

_BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.S)


def refresh(path: Path) -> int:
    """Make every marked table of a file anew."""
    text = path.read_text(encoding="utf-8")
    fresh = filled(text, path.parent)
    if fresh != text:
        write_text(path, fresh)
    print(f"{path}: {len(_BLOCK.findall(text))} tables {'are current' if fresh == text else 'made anew'}")
    return 0


def filled(text: str, root: Path) -> str:
    """The text with its tables as they should be.

    Raises:
        UserError: no marker, or one of a sweep that cannot be read.
    """
    if not _BLOCK.search(text):
        raise UserError(
            "no table here; mark its place by <!-- table: sweeps/x.yaml --> and <!-- end of table -->"
        )
    return _BLOCK.sub(lambda m: f"{m[1]}{_table(root, m[2])}\n{m[3]}", text)


def _table(root: Path, name: str) -> str:
    sweep = load_sweep(root / name, [])
    folder = root / "results" / sweep.name
    records = load_records(folder / RECORDS).records if (folder / RECORDS).exists() else ()
    if len(sweep.grid) > 1 or not records:
        return _planned(sweep, name, records)
    head = read_head(folder)
    setting = by_setting(records, expected_of(head) if head else None)[0]
    built = build_report(
        setting.records, title="", subtitle="", expected_seeds=setting.expected, reference="grpo"
    )
    facts = [record.benchmark for record in setting.records[:1]]
    if (least := built.tables[0].detectable) is not None:
        power = f"{100 * POWER:.0f} % probability"
        facts.append(f"a true difference of {100 * least:.1f} points of pass@1 is found with {power}")
    facts.append(f"{trainings(built.groups)} trainings")
    return f"{short_table(built)}\n\n*{'; '.join(facts)}.* {legend_of(built)}"


def _planned(sweep: Sweep, name: str, records: Sequence[Record]) -> str:
    """A row for every method with its pass@1 at each setting; empty where nobody has run it yet."""
    jobs = [job for job in make_plan(sweep, Runs()) if job.role != "base"]
    where = list(dict.fromkeys(job.table_setting for job in jobs))
    scores: dict[tuple[tuple[str, str], str, str], str] = {}
    done: dict[tuple[str, str], int] = {}
    for setting in by_setting(records):
        built = build_report(setting.records, title="", subtitle="", expected_seeds=None, reference="grpo")
        for line in built.tables[0].lines:
            key = (line.group.role, line.group.method)
            scores[(setting.model, setting.training_set), *key] = percent(line.score)
            done[key] = done.get(key, 0) + len(line.group.records)
    hours = _hours(sweep, jobs)
    heads = [f"{model.rpartition('/')[2]}, {training_set}" for model, training_set in where]
    out = [f"| method | {' | '.join(heads)} | runs | GPU-hours |", "|:--|" + "--:|" * (len(heads) + 2)]
    for key in dict.fromkeys((job.role, job.label) for job in jobs):
        own = [job for job in jobs if (job.role, job.label) == key]
        cells = [scores.get((setting, *key), "") for setting in where]
        label = f"{key[1]} (control)" if key[0] == "control" else key[1]
        known = f"{hours[key]:.0f}" if key in hours else DASH
        out.append(f"| {label} | {' | '.join(cells)} | {done.get(key, 0)} of {len(own)} | {known} |")
    runs = sum(done.values())
    total = f", {sum(hours.values()):.0f} GPU-hours" if hours else ""
    out += [
        "",
        f"pass@1 in %; {runs} of {len(jobs)} runs are there; an empty cell has none. GPU-hours are the "
        f"sweep file's own estimate, not measured{total} for all.{_unlisted(sweep, jobs)} To fill a row, or "
        "all of them:",
        "",
        f"    entrobench sweep submit {name} launcher=slurm methods=[steer]",
        f"    entrobench sweep submit {name} launcher=slurm",
    ]
    return "\n".join(out)


def _unlisted(sweep: Sweep, jobs: Sequence[Job]) -> str:
    """Which rows of the sweep have no line, and why."""
    labels = {job.label for job in jobs if job.role == "control"}
    waiting = [name for name in sweep.controls if name not in labels]
    parts = []
    if sweep.base_temperatures:
        at = " and ".join("its best" if t == "tuned" else f"{t:g}" for t in sweep.base_temperatures)
        parts.append(f"the base model (sampled at temperature {at}), for it trains nothing")
    if waiting:
        parts.append(f"{', '.join(waiting)}, until `sweep tune` has chosen what they need")
    return f" Without a line: {'; '.join(parts)}." if parts else ""


def _hours(sweep: Sweep, jobs: Sequence[Job]) -> dict[tuple[str, str], float]:
    """Stated GPU-hours of each row, as ``sweep plan`` sums them before anything has run."""
    found: dict[tuple[str, str], float] = {}
    for job, cost in zip(jobs, costs(sweep, jobs, [RunState("missing")] * len(jobs)), strict=True):
        if cost.hours is not None:
            found[job.role, job.label] = found.get((job.role, job.label), 0.0) + cost.hours
    return found
