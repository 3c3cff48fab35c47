"""The headline table on the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.analysis.levels import ALPHA
from harness.report.analysis.model import Report
from harness.report.render.versus_files import HEADERS, cells, notes, title
from harness.report.tables.columns import headline_columns
from harness.report.tables.explain import set_title

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.report.analysis.versus import Versus

_SHOWN_NOTES = ("Scope", "Ranks", "Differences", "Missing")


def render(report: Report) -> RenderableType:
    """Headline table in sections (controls, tracks, reconstructions) with the notes that matter below."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    headline = report.tables[0]
    columns = [column for column in headline_columns(headline) if not column.wide]
    table = Table(title=escape(f"{report.title}: {set_title(headline.name).lower()}"), title_justify="left")
    for column in columns:
        left = column.key == "method"
        table.add_column(escape(column.header), justify="left" if left else "right", no_wrap=not left)
    for block, lines in headline.blocks:
        table.add_section()
        table.add_row(*(Text(block, style="bold dim") if c.key == "method" else "" for c in columns))
        for line in lines:
            style = (
                "bold"
                if line.rank and line.rank[0] == 1
                else "dim"
                if line.rank is None and report.ranked
                else ""
            )
            table.add_row(*(Text(column.text(line)) for column in columns), style=style)
    notes = [
        Text.assemble((f"{label}: ", "bold"), text) for label, text in report.notes if label in _SHOWN_NOTES
    ]
    return Group(table, *notes)


def render_versus(found: Versus, first: str, second: str) -> RenderableType:
    """Two sweeps row by row: scores, their difference, and what else differs."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table(title=escape(title(found)))
    for header in HEADERS:
        table.add_column(header, justify="left" if header in (HEADERS[0], HEADERS[-1]) else "right")
    for pair in found.pairs:
        row = [Text(cell) for cell in cells(pair)]
        if pair.p is not None and pair.p < ALPHA:
            row[HEADERS.index("B − A")].stylize("bold")
        table.add_row(*row)
    return Group(table, *(Text(note) for note in notes(found, first, second)))
