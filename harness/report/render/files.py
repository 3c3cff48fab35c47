"""Writes a leaderboard's files, and its table for the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.records.record import Record
from harness.report.render.figures.canvas import plain_matplotlib
from harness.report.render.figures.draw import draw_figures
from harness.report.render.figures.surface import draw_surface
from harness.report.render.latex import latex_text
from harness.report.render.page import html_page
from harness.report.render.plain_json import json_text
from harness.report.render.plot_data import report_data
from harness.report.render.terminal import render
from harness.report.render.text import csv_text, markdown_text
from harness.report.tables.build import build_report
from harness.util.files import replacing, write_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.report.analysis.model import Report
    from harness.report.analysis.robustness import Surface


def write_report(
    records: Sequence[Record],
    out_dir: Path,
    *,
    title: str,
    subtitle: str = "",
    expected_seeds: Mapping[str, int] | None = None,
    reference: str = "grpo",
    pages: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write ``leaderboard.{md,csv,tex,json,html}`` and the pictures into ``out_dir``.

    Args:
        records: in any order.
        out_dir: created when missing; files of the same names are replaced.
        expected_seeds: method -> number of seeds its sweep planned; rows with fewer are marked and not
            ranked, methods without any record are listed as missing.
        reference: the method that differences are taken against.
        pages: method -> address of its page, relative to ``out_dir``.

    Returns:
        The files written, in a fixed order.

    Raises:
        ValueError: records that must not stand in one table (other benchmark, numerics version, model or
            method file), or two different records of one run; the message names both
            sides and the remedy.
    """
    report = build_report(
        records, title=title, subtitle=subtitle, expected_seeds=expected_seeds, reference=reference
    )
    return write_files(report, out_dir, pages or {})


def write_files(report: Report, out_dir: Path, pages: Mapping[str, str]) -> list[Path]:
    """The files of :func:`write_report` from a built report."""
    figures = draw_figures(report)
    page = html_page([report], title=report.title, subtitle=report.subtitle, pages=pages)
    contents: dict[str, bytes] = {
        "leaderboard.md": markdown_text(report, list(figures)).encode(),
        "leaderboard.csv": csv_text(report).encode(),
        "leaderboard.tex": latex_text(report).encode(),
        "leaderboard.json": json_text(report_data(report)).encode(),
        "leaderboard.html": page.encode(),
        **figures,
    }
    out_dir.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in contents.items():
        path = out_dir / name
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        written.append(path)
    return written


def write_page(
    reports: Sequence[Report], out_dir: Path, *, title: str, subtitle: str, pages: Mapping[str, str]
) -> Path:
    """``leaderboard.html`` with several models and training sets to choose from."""
    path = out_dir / "leaderboard.html"
    write_text(path, html_page(reports, title=title, subtitle=subtitle, pages=pages))
    return path


def write_surface(found: Surface, out_dir: Path) -> Path:
    """``rates-pass@k.png``: every row at every learning rate."""
    with plain_matplotlib():
        content = draw_surface(found, f"{found.what} in %, averaged over the test sets, over learning rates")
    path = out_dir / f"rates-{found.what}.png"
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path


def render_terminal(
    records: Sequence[Record],
    *,
    title: str = "Leaderboard",
    expected_seeds: Mapping[str, int] | None = None,
    reference: str = "grpo",
) -> RenderableType:
    """The headline table for the console, as a ``rich`` renderable; arguments as :func:`write_report`."""
    return render(
        build_report(records, title=title, subtitle="", expected_seeds=expected_seeds, reference=reference)
    )
