"""Measures again and says which rows became worse than their stored baseline.

    python -m tests.performance.check                 # every row
    python -m tests.performance.check step-micro vcpo-152k

The baseline is what ``results/performance/`` holds. A row fails when its new median is more than 15 % beyond
the worse end of the baseline's spread, or when it cannot be measured any more. Exit code 1 where one fails.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.util.errors import UserError
from tests.performance.about import FOLDER
from tests.performance.measures import TOLERATED, Measure, Missing, chosen
from tests.performance.timing import table

#: Verdict of a row that fails the check.
FAILS = ("WORSE", "FAILED")


def measure_anew(measures: Sequence[Measure], folder: Path) -> dict[str, str]:
    """Run every command once, result files in ``folder``; returns what went wrong, by measure."""
    wrong: dict[str, str] = {}
    done: dict[tuple[str, ...], str] = {}
    for measure in measures:
        if measure.command not in done:
            module, *arguments = measure.command
            print(f"{measure.key} …", file=sys.stderr, flush=True)
            (folder / measure.key).mkdir(parents=True, exist_ok=True)
            out = subprocess.run(
                [
                    sys.executable, "-m", f"tests.performance.{module}", *arguments,
                    "--out", str(folder / measure.key / measure.file),
                ],
                capture_output=True, text=True,
            )  # fmt: skip
            said = out.stderr.strip().splitlines()
            done[measure.command] = (said[-1] if said else "no message") if out.returncode else ""
        if done[measure.command]:
            wrong[measure.key] = done[measure.command]
    return wrong


def verdict(measure: Measure, fresh: Path, baseline: Path, wrong: str = "") -> tuple[str, str, str]:
    """``ok``, ``WORSE``, ``FAILED`` or ``no baseline`` of a measure; stored and new ratio in words.

    Ratios of other problems are not compared. A row that is missing in both, for the same want of a peer or a
    processor, is ``missing``.
    """
    try:
        stored, content = measure.stored(baseline)
        problems = measure.problems(content)
    except Missing as error:
        before, stored = str(error), None
    try:
        if wrong:
            raise Missing(wrong)
        now, content = measure.stored(fresh)
        if stored and (others := measure.problems(content)) != problems:
            raise Missing(f"measured with {others}, the baseline with {problems} (ENTROBENCH_DATA)")
    except Missing as error:
        if stored is None and not wrong:
            return "missing", before, str(error)
        return "FAILED", stored.text() if stored else before, str(error)
    if stored is None:
        return "no baseline", before, now.text()
    return ("WORSE" if measure.worse(stored, now) else "ok"), stored.text(), now.text()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="check", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", nargs="*", help="rows to measure; default: all")
    parser.add_argument("--baseline", type=Path, default=FOLDER, help="folder of stored results")
    args = parser.parse_args(argv)
    try:
        measures = chosen(args.rows)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wrong = measure_anew(measures, folder)
        rows = [
            [m.key, *verdict(m, folder / _place(m, measures), args.baseline, wrong.get(m.key, ""))]
            for m in measures
        ]
    print(table(["row", "verdict", "baseline", "now"], rows))
    failed = [row[0] for row in rows if row[1] in FAILS]
    if failed:
        print(f"worse than the baseline by more than {TOLERATED:.0%} beyond its spread: {', '.join(failed)}")
    return 1 if failed else 0


def _place(measure: Measure, measures: Sequence[Measure]) -> str:
    """The folder of the measure that ran this one's command."""
    return next(m.key for m in measures if m.command == measure.command)


if __name__ == "__main__":
    sys.exit(main())
