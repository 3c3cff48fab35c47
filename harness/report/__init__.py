"""Leaderboards and plots, derived from result records and from nothing else.

:func:`write_report` writes the files, :func:`render_terminal` the console table. Equal records give
equal bytes, in whatever order they come: no clock, no file names, no machine in the output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["render_terminal", "write_report"]


def write_report(
    records: Sequence[Mapping[str, Any]],
    out_dir: Path,
    *,
    title: str,
    subtitle: str = "",
    expected_seeds: Mapping[str, int] | None = None,
    reference: str = "grpo",
) -> list[Path]:
    """Write ``leaderboard.{md,csv,html}`` and ``{entropy,passk,frontier}.png`` into ``out_dir``.

    Args:
        records: result records, schema 1, in any order.
        out_dir: created when missing; files of the same names are replaced.
        expected_seeds: method -> number of seeds its sweep planned; rows with fewer are marked and not
            ranked, methods without any record are listed as missing.
        reference: the method that differences are taken against.

    Returns:
        The files written, in a fixed order.

    Raises:
        ValueError: records that must not stand in one table (other benchmark, numerics version, model or
            method file), two different records of one run, or an unknown schema; the message names both
            sides and the remedy.
    """
    from harness.report.build import build_report
    from harness.report.figures import draw_figures
    from harness.report.write import csv_text, html_text, markdown_text

    report = build_report(
        records, title=title, subtitle=subtitle, expected_seeds=expected_seeds, reference=reference
    )
    figures = draw_figures(report)
    contents: dict[str, bytes] = {
        "leaderboard.md": markdown_text(report, sorted(figures)).encode(),
        "leaderboard.csv": csv_text(report).encode(),
        "leaderboard.html": html_text(report, figures).encode(),
        **figures,
    }
    out_dir.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in contents.items():
        path = out_dir / name
        path.write_bytes(content)
        written.append(path)
    return written


def render_terminal(
    records: Sequence[Mapping[str, Any]],
    *,
    title: str = "Leaderboard",
    expected_seeds: Mapping[str, int] | None = None,
    reference: str = "grpo",
) -> RenderableType:
    """The headline table for the console, as a ``rich`` renderable; arguments as :func:`write_report`."""
    from harness.report.build import build_report
    from harness.report.terminal import render

    return render(
        build_report(records, title=title, subtitle="", expected_seeds=expected_seeds, reference=reference)
    )
