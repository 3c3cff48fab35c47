"""Leaderboards and plots, derived from result records.

:func:`write_report` writes the files, :func:`render_terminal` the console table. Equal records give
equal bytes, in whatever order they come: no clock, no file names, no machine in the output. Two things that
no record holds come from the checkout: whether a method's card says that the law of entropy applies to it
(``conditions.py``), and the papers' own numbers (``reported.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.report.model import Report

__all__ = ["render_terminal", "write_report"]


def write_report(
    records: Sequence[Mapping[str, Any]],
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
        records: result records, schema 1, in any order.
        out_dir: created when missing; files of the same names are replaced.
        expected_seeds: method -> number of seeds its sweep planned; rows with fewer are marked and not
            ranked, methods without any record are listed as missing.
        reference: the method that differences are taken against.
        pages: method -> address of its page, relative to ``out_dir``.

    Returns:
        The files written, in a fixed order.

    Raises:
        ValueError: records that must not stand in one table (other benchmark, numerics version, model or
            method file), two different records of one run, or an unknown schema; the message names both
            sides and the remedy.
    """
    from harness.report.build import build_report

    report = build_report(
        records, title=title, subtitle=subtitle, expected_seeds=expected_seeds, reference=reference
    )
    return write_files(report, out_dir, pages or {})


def write_files(report: Report, out_dir: Path, pages: Mapping[str, str]) -> list[Path]:
    """The files of :func:`write_report` from a built report."""
    from harness.files import replacing
    from harness.report.data import json_text, report_data
    from harness.report.figures import draw_figures
    from harness.report.latex import latex_text
    from harness.report.page import html_page
    from harness.report.write import csv_text, markdown_text

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
    from harness.files import write_text
    from harness.report.page import html_page

    path = out_dir / "leaderboard.html"
    write_text(path, html_page(reports, title=title, subtitle=subtitle, pages=pages))
    return path


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
