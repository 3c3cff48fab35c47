"""Findings on paper: a Markdown table, and JSON beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.analyses.base import Cell, Finding
from harness.config.schema import slug
from harness.util.files import write_json, write_text

#: Where findings stand in a run's folder.
FOLDER = "analysis"


def table(finding: Finding) -> str:
    """The table in Markdown, columns aligned, with the notes below it."""
    cells = [finding.columns, *([_shown(cell) for cell in row] for row in finding.rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(finding.columns))]
    lines = [_line(row, widths) for row in cells]
    rule = "|".join(("", *("-" * (width + 1) + ":" for width in widths), ""))
    return "\n".join([lines[0], rule, *lines[1:], *([""] if finding.notes else []), *finding.notes])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return f"| {' | '.join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))} |"


def _shown(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return "–"
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)


def write(finding: Finding, name: str, to: Path | None = None) -> list[Path]:
    """Write ``<name>.json`` and ``.md`` into the run's folder, or into ``to`` with the label in their names.

    Returns:
        The files; none for a model without ``to``.
    """
    if to is None and finding.folder is None:
        return []
    if to is not None:
        stem = to / f"{name}-{slug(finding.label)}"
    else:
        assert finding.folder is not None
        stem = finding.folder / FOLDER / name
    files = [stem.with_name(f"{stem.name}{end}") for end in (".json", ".md")]
    write_json(files[0], plain({"analysis": name, "of": finding.label, **finding.data}))
    write_text(files[1], f"# {name}: {finding.label}\n\n{table(finding)}\n")
    return files


def plain(value: Any) -> Any:
    """``value`` as JSON has it: a number that is not finite is null."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
