"""Two sweeps beside each other as files: Markdown, CSV and JSON from the same rows as the console."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from harness.report.analysis.versus import Pair, Versus
from harness.report.render.plain_json import json_text
from harness.report.render.text import escaped
from harness.report.tables.columns import DASH, p_text, percent, points
from harness.util.files import write_text

FORMAT = 1
HEADERS = ("row", "A", "B", "B − A", "seeds", "what differs")
MEANING = "p: two-sided, Holm-corrected over the rows; only over seeds and problems that both have."


def write_versus(found: Versus, out: Path, first: str, second: str) -> list[Path]:
    """Write ``compare.{md,csv,json}`` into ``out``; equal records and names give equal bytes.

    Args:
        first, second: how the two sides are called.
    """
    out.mkdir(parents=True, exist_ok=True)
    texts = {
        "compare.md": markdown_text(found, first, second),
        "compare.csv": csv_text(found),
        "compare.json": json_text(_data(found, first, second)),
    }
    for name, text in texts.items():
        write_text(out / name, text)
    return [out / name for name in texts]


def cells(pair: Pair) -> tuple[str, ...]:
    """One row as people read it."""
    p = f" ({p_text(pair.p)})" if pair.p is not None else ""
    differs = "the same runs" if pair.same_runs else ", ".join(pair.differs) or "nothing but chance"
    return (
        f"{pair.method} (control)" if pair.role == "control" else pair.method,
        percent(pair.first),
        percent(pair.second),
        points(pair.difference) + p,
        str(len(pair.seeds)) if pair.role != "base" else DASH,
        differs,
    )


def notes(found: Versus, first: str, second: str) -> list[str]:
    """What stands below the table."""
    told = [f"A: {first}", f"B: {second}", MEANING]
    for name, rows in (("A", found.only_first), ("B", found.only_second)):
        if rows:
            told.append(f"only in {name}: {', '.join(rows)}")
    return [*told, *found.remarks]


def title(found: Versus) -> str:
    """Heading of the table."""
    return f"pass@1 in %, averaged over {', '.join(found.sets) or 'no common set'}"


def markdown_text(found: Versus, first: str, second: str) -> str:
    """The comparison for a repository page."""
    out = [f"# {escaped(first)} and {escaped(second)}", "", title(found) + ".", ""]
    out += ["| " + " | ".join(HEADERS) + " |", "|:--|--:|--:|--:|--:|:--|"]
    out += ["| " + " | ".join(map(escaped, cells(pair))) + " |" for pair in found.pairs]
    out += ["", *(f"- {escaped(note)}" for note in notes(found, first, second)), ""]
    return "\n".join(out)


def csv_text(found: Versus) -> str:
    """Every number, one line per row, shares in [0, 1], empty when missing."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ("role", "method", "first", "second", "difference", "p_holm", "seeds", "same_runs", "differs")
    )
    for pair in found.pairs:
        numbers = [
            "" if v is None else f"{v:.6g}" for v in (pair.first, pair.second, pair.difference, pair.p)
        ]
        same = "true" if pair.same_runs else "false"
        writer.writerow((pair.role, pair.method, *numbers, _words(pair.seeds), same, "; ".join(pair.differs)))
    return buffer.getvalue()


def _words(seeds: Sequence[int]) -> str:
    return " ".join(map(str, seeds))


def _data(found: Versus, first: str, second: str) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "format": FORMAT,
        "first": first,
        "second": second,
        "sets": list(found.sets),
        "rows": [
            asdict(pair) | {"seeds": list(pair.seeds), "differs": list(pair.differs)} for pair in found.pairs
        ],
        "only_first": list(found.only_first),
        "only_second": list(found.only_second),
        "remarks": list(found.remarks),
    }
