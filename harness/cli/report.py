"""``entrobench report``: leaderboard, plots and the table on the console, from records only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError


def report(source: str, options: Sequence[str]) -> int:
    """Write the report of a sweep file (collecting finished runs first) or of a folder of records."""
    path = Path(source)
    if path.is_dir():
        from harness.sweep.collect import RECORDS, read_records

        if options:
            raise UserError("a folder of records takes no options; give the sweep file instead")
        records = read_records(path / RECORDS)
        if not records:
            raise UserError(f"no records in {path / RECORDS}")
        title = str(records[0].get("sweep") or path.resolve().name)
        return _write(records, path, title, "", None)
    return _of_sweep(path, options)


def _of_sweep(path: Path, options: Sequence[str]) -> int:
    from harness.sweep.collect import collect
    from harness.sweep.jobs import Runs
    from harness.sweep.plan import plan
    from harness.sweep.spec import load_sweep

    sweep, backend = load_sweep(path, options), Runs()
    jobs = plan(sweep, backend)
    collected = collect(sweep, jobs, backend)
    if not collected.records:
        raise UserError(f"no finished runs of {path} yet; start them with: entrobench sweep submit {path}")
    expected = Counter(job.label for job in jobs if job.role != "base")
    subtitle = sweep.subtitle
    if collected.older_rows:
        note = f"Rows from older code, not run again yet: {', '.join(collected.older_rows)}."
        subtitle = f"{subtitle} {note}".strip()
    return _write(collected.records, sweep.results, sweep.title or sweep.name, subtitle, expected)


def _write(
    records: Sequence[Mapping[str, Any]], out: Path, title: str, subtitle: str,
    expected: Mapping[str, int] | None,
) -> int:  # fmt: skip
    from rich.console import Console

    from harness.report import render_terminal, write_report

    try:
        written = write_report(records, out, title=title, subtitle=subtitle, expected_seeds=expected)
        table = render_terminal(records, title=title, expected_seeds=expected)
    except ValueError as error:
        raise UserError(str(error)) from error
    console = Console() if Console().is_terminal else Console(width=160)
    console.print(table)
    print("written:")
    for file in written:
        print(f"  {file}")
    return 0
