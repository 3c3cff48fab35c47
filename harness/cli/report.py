"""``entrobench report``: leaderboard, plots and the table on the console, from records only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.report.places import Place


def report(source: str, options: Sequence[str]) -> int:
    """Write the report of a sweep file (collecting finished runs first) or of a folder of records."""
    path = Path(source)
    if path.is_dir():
        from harness.report.load import load_records
        from harness.report.places import places_of
        from harness.sweep.collect import RECORDS

        if options:
            raise UserError("a folder of records takes no options; give the sweep file instead")
        loaded = load_records(path / RECORDS)
        for line in loaded.left_out:
            print(line)
        records = loaded.records
        if not records:
            raise UserError(f"no records in {path / RECORDS}")
        title = str(records[0].get("sweep") or path.resolve().name)
        _write(places_of(records), path, title, "")
        return 1 if loaded.left_out else 0
    return _of_sweep(path, options)


def _of_sweep(path: Path, options: Sequence[str]) -> int:
    from harness.report.places import as_expected, places_of
    from harness.sweep.collect import collect, told
    from harness.sweep.jobs import Runs
    from harness.sweep.plan import plan
    from harness.sweep.spec import load_sweep

    sweep, backend = load_sweep(path, options), Runs()
    jobs = plan(sweep, backend)
    collected = collect(sweep, jobs, backend)
    for line in told(collected):
        print(line)
    if not collected.records:
        raise UserError(f"no finished runs of {path} yet; start them with: entrobench sweep submit {path}")
    subtitle = sweep.subtitle
    if collected.older_rows:
        note = f"Rows from older code, not run again yet: {', '.join(collected.older_rows)}."
        subtitle = f"{subtitle} {note}".strip()
    planned = as_expected([(*job.table_place, job.label) for job in jobs if job.role != "base"])
    _write(places_of(collected.records, planned), sweep.results, sweep.title or sweep.name, subtitle)
    return 0 if collected.whole else 1


def _write(places: Sequence[Place], out: Path, title: str, subtitle: str) -> None:
    """One report, or one for each place in a folder of its own and a page that leads to them."""
    if len(places) == 1:
        _write_place(places[0], out, title, subtitle)
        return
    from harness.report.places import write_index

    for place in places:
        if place.records:
            _write_place(place, out / place.folder, f"{title}: {place.title}", subtitle)
    print(f"all of them: {write_index(places, out, title=title, subtitle=subtitle)}")
    for place in places:
        print(f"  {place.title}: {place.count}")


def _write_place(place: Place, out: Path, title: str, subtitle: str) -> None:
    from rich.console import Console

    from harness.report import render_terminal, write_report

    try:
        written = write_report(
            place.records, out, title=title, subtitle=subtitle, expected_seeds=place.expected
        )
        table = render_terminal(place.records, title=title, expected_seeds=place.expected)
    except ValueError as error:
        raise UserError(str(error)) from error
    console = Console() if Console().is_terminal else Console(width=160)
    console.print(table)
    print("written:")
    for file in written:
        print(f"  {file}")
