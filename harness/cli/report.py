"""``entrobench report``: leaderboard, plots and the table on the console, from records only.

Runs of this machine never change a report: ``entrobench sweep collect`` takes them into the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.cli.readme import refresh
from harness.records.load import load_records
from harness.records.record import Record
from harness.records.trial import TrialRecord, read_trials
from harness.report.analysis.beside import set_beside
from harness.report.analysis.model import Report
from harness.report.analysis.select import RowSelection, of_models, parse, shown
from harness.report.analysis.versus import compare_sweeps
from harness.report.data.grid import SettingRecords, as_expected, by_setting, write_index
from harness.report.data.head import HEAD, expected_of, read_head
from harness.report.data.reported import load_reported
from harness.report.render.files import write_files, write_page, write_surface
from harness.report.render.terminal import render, render_versus
from harness.report.render.versus_files import write_versus
from harness.report.tables.build import build_report
from harness.report.tables.rates import surface_lines, surfaces_of
from harness.sweep.collect import OLD_RECORDS, Standing, standing
from harness.sweep.jobs import Runs
from harness.sweep.plan import plan
from harness.sweep.recorded import RECORDS
from harness.sweep.spec import load_sweep
from harness.util.errors import UserError
from harness.util.files import write_json
from harness.util.words import counted

#: What a report knows besides the records: title, subtitle and the planned seeds, beside the records.
SELECTED = "selected"
COMPARED = "compare"


def report(
    source: str | None,
    options: Sequence[str],
    *,
    compare: Sequence[str] | None = None,
    select: Sequence[str] | None = None,
    readme: str | None = None,
    to: str | None = None,
    numerics: int | None = None,
) -> int:
    """Write the report of a sweep file (its records, whatever is in ``runs/``) or of a folder of records.

    ``numerics`` takes the folder's records of one numerics version, past ones too, to a folder of their own.
    """
    asked = [bool(source), bool(compare), bool(readme)]
    if sum(asked) != 1:
        raise UserError("give a sweep file or a folder of records, or --compare A B, or --readme FILE")
    if to and not compare:
        raise UserError("--to is the folder of a comparison; give --compare A B, too")
    if select and not source:
        raise UserError("--select chooses rows of one report: give a sweep file or a folder of records")
    if compare:
        return _compare(compare[0], compare[1], to)
    if readme:
        return refresh(Path(readme))
    path = Path(str(source))
    if numerics is not None and not path.is_dir():
        raise UserError("--numerics chooses among the records of a folder; give the folder of results")
    if not path.is_dir():
        return _of_sweep(path, options, select or ())
    if options:
        raise UserError("a folder of records takes no options; give the sweep file instead")
    records, left_out = read_folder(path, numerics)
    head = read_head(path)
    title = head.get("title") or records[0].sweep or path.resolve().name
    expected = expected_of(head) if head else None
    out = path if numerics is None else path / f"numerics-{numerics}"
    trials = read_trials(path)
    _write(records, expected, out, str(title), str(head.get("subtitle", "")), select or (), trials)
    return 1 if left_out else 0


def read_folder(path: Path, numerics: int | None = None) -> tuple[list[Record], int]:
    """The records of a results folder, and how many were named and left out.

    Args:
        numerics: those of this numerics version alone, also where newer runs have taken their place.

    Raises:
        UserError: there are none.
    """
    names = (RECORDS,) if numerics is None else (RECORDS, OLD_RECORDS)
    parts = [load_records(path / name) for name in names]
    left_out = [line for part in parts for line in part.left_out]
    for line in left_out:
        print(line)
    records = [record for part in parts for record in part.records]
    if not records:
        raise UserError(f"no records in {path / RECORDS}; give the results folder of a sweep, or collect one")
    if numerics is None:
        return records, len(left_out)
    known = ", ".join(map(str, sorted({record.numerics_version for record in records})))
    records = [record for record in records if record.numerics_version == numerics]
    if not records:
        raise UserError(f"{path} has no record of numerics version {numerics}; it has {known}")
    return records, len(left_out)


def _of_sweep(path: Path, options: Sequence[str], select: Sequence[str]) -> int:
    sweep, backend = load_sweep(path, options), Runs()
    jobs = plan(sweep, backend)
    found = standing(sweep, jobs)
    for line in found.left_out:
        print(line)
    take = f"entrobench sweep collect {path}"
    if not found.records and found.finished:
        raise UserError(
            f"no records of {path} yet; {counted(found.finished, 'finished run')} of it "
            f"{'is' if found.finished == 1 else 'are'} here, take them in: {take}"
        )
    if not found.records:
        raise UserError(f"no finished runs of {path} yet; start them with: entrobench sweep submit {path}")
    subtitle = sweep.subtitle
    past = {record.numerics_version for record in found.records} - {backend.numerics_version}
    if past:
        named = " and ".join(map(str, sorted(past)))
        note = f"Numerics version {named}: no record of version {backend.numerics_version} is there yet."
        if read_head(sweep.results):  # what was planned then, which today's plan knows nothing of
            code = report(str(sweep.results), (), select=select)
            print(note)
            _tell_of_runs(found, take)
            return code
        subtitle = f"{subtitle} {note}".strip()
    elif found.older_rows:
        note = f"Rows from older code, not run again yet: {', '.join(found.older_rows)}."
        subtitle = f"{subtitle} {note}".strip()
    planned = as_expected([(*job.table_setting, job.label) for job in jobs if job.role != "base"])
    title = sweep.title or sweep.name
    where = [{"model": m, "training_set": t, "seeds": seeds} for (m, t), seeds in planned.items()]
    write_json(sweep.results / HEAD, {"title": title, "subtitle": subtitle, "planned": where})
    _write(found.records, planned, sweep.results, title, subtitle, select, read_trials(sweep.results))
    _tell_of_runs(found, take)
    return 1 if found.left_out else 0


def _tell_of_runs(found: Standing, take: str) -> None:
    if found.finished:
        runs = counted(found.finished, "finished run")
        print(f"not in the records: {runs} of this machine; take them in: {take}")


def _write(
    records: Sequence[Record],
    expected: Mapping[tuple[str, str], Mapping[str, int]] | None,
    out: Path,
    title: str,
    subtitle: str,
    select: Sequence[str],
    trials: Sequence[TrialRecord],
) -> None:
    """One report, or one for each setting in a folder of its own and a page that leads to them.

    A selection goes to a folder of its own, so that it never stands where the whole table should.
    """
    wanted = None
    if select:
        wanted = parse(select)
        records = of_models(records, wanted)
        out, subtitle = out / SELECTED, f"{subtitle} {wanted.words}".strip()
        if expected is not None and wanted.models:
            expected = {setting: seeds for setting, seeds in expected.items() if setting[0] in wanted.models}
    grid = by_setting(records, expected)
    if len(grid) == 1:
        _write_setting(grid[0], out, title, subtitle, trials, wanted)
        return
    reports = [
        _write_setting(setting, out / setting.folder, f"{title}: {setting.title}", subtitle, trials, wanted)
        for setting in grid
        if setting.records
    ]
    page = write_page(reports, out, title=title, subtitle=subtitle, pages=pages_for(reports, out))
    index = write_index(grid, out, title=title, subtitle=subtitle, below=_surfaces(reports, out))
    print(f"all of them: {page}, {index}")
    for setting in grid:
        print(f"  {setting.title}: {setting.count}")


def _surfaces(reports: Sequence[Report], out: Path) -> list[str]:
    """Where the settings are learning rates: the rows over all of them, as Markdown and pictures."""
    try:
        found = surfaces_of(reports)
    except ValueError as error:
        raise UserError(str(error)) from error
    lines: list[str] = []
    for one in found:
        picture = write_surface(one, out)
        lines += [
            *surface_lines(one),
            f"![{one.what} of every row at every learning rate]({picture.name})",
            "",
        ]
    return lines


def _write_setting(
    setting: SettingRecords,
    out: Path,
    title: str,
    subtitle: str,
    trials: Sequence[TrialRecord],
    wanted: RowSelection | None = None,
) -> Report:
    from rich.console import Console

    try:
        built = build_report(
            setting.records, title=title, subtitle=subtitle, expected_seeds=setting.expected,
            reference="grpo",
            trials=[trial for trial in trials if setting.holds(trial.model_name, trial.training_set)],
        )  # fmt: skip
    except ValueError as error:
        raise UserError(str(error)) from error
    if wanted is not None:
        built = shown(built, wanted)
    built = _with_printed(built, out)
    written = write_files(built, out, pages_for([built], out))
    console = Console() if Console().is_terminal else Console(width=160)
    console.print(render(built))
    print("written:")
    for file in written:
        print(f"  {file}")
    return built


def _root(out: Path) -> Path | None:
    """The checkout that ``out`` lies in: there are the papers' numbers and the methods' pages."""
    return next((p for p in out.resolve().parents if (p / "results" / "reported.csv").exists()), None)


def _with_printed(built: Report, out: Path) -> Report:
    from dataclasses import replace

    root = _root(out)
    if root is None:
        return built
    return replace(built, beside=tuple(set_beside(built, load_reported(root / "results" / "reported.csv"))))


def pages_for(reports: Sequence[Report], out: Path) -> dict[str, str]:
    """Method -> its page under docs/methods, relative to ``out``, where there is one."""
    import os

    root = _root(out)
    names = {group.method for built in reports for group in built.groups if group.role == "method"}
    if root is None:
        return {}
    found = {name: root / "docs" / "methods" / f"{name.partition('@')[0]}.md" for name in sorted(names)}
    return {
        name: Path(os.path.relpath(p, out.resolve())).as_posix() for name, p in found.items() if p.exists()
    }


def _compare(first: str, second: str, to: str | None) -> int:
    """Two sweeps, each a sweep file or a folder of records, row by row: on the console and as files.

    The files go beside the first one's folder, into ``compare/<a>-vs-<b>/``, and name the sides by their
    folders: where those lie on this machine is no part of the outcome. Places are compared one by one.
    """
    folders = [_results_of(Path(word)) for word in (first, second)]
    read = [read_folder(folder) for folder in folders]
    names = [folder.resolve().name for folder in folders]
    beside = folders[0].parent if folders[0].name not in ("", "..") else folders[0].resolve().parent
    out = Path(to) if to else beside / COMPARED / f"{names[0]}-vs-{names[1]}"
    sides = [by_setting(records) for records, _ in read]
    if all(len(grid) == 1 for grid in sides):
        written = _compare_setting(sides[0][0], sides[1][0], out, names)
    else:
        written = []
        others = {(setting.model, setting.training_set): setting for setting in sides[1]}
        for setting in sides[0]:
            other = others.pop((setting.model, setting.training_set), None)
            if other is None:
                print(f"only in A: {setting.title}")
                continue
            print(setting.title)
            written += _compare_setting(setting, other, out / setting.folder, names)
        for other in others.values():
            print(f"only in B: {other.title}")
    if not written:
        raise UserError("the two sweeps have no model and training set in common, so nothing to compare")
    print("written:")
    for file in written:
        print(f"  {file}")
    return 1 if any(left_out for _, left_out in read) else 0


def _compare_setting(
    first: SettingRecords, second: SettingRecords, out: Path, names: Sequence[str]
) -> list[Path]:
    from rich.console import Console

    try:
        found = compare_sweeps(first.records, second.records)
    except ValueError as error:
        raise UserError(str(error)) from error
    console = Console() if Console().is_terminal else Console(width=160)
    console.print(render_versus(found, *names))
    return write_versus(found, out, *names)


def _results_of(path: Path) -> Path:
    if path.is_dir():
        return path
    return load_sweep(path, []).results
