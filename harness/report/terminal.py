"""The headline table on the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.columns import DASH, headline_columns, p_text, percent, points
from harness.report.explain import set_title
from harness.report.model import ALPHA, Report

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.report.versus import Versus

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

    table = Table(title=f"pass@1 in %, averaged over {escape(', '.join(found.sets) or 'no common set')}")
    for header, left in (("row", True), ("A", False), ("B", False), ("B − A", False), ("seeds", False),
                         ("what differs", True)):  # fmt: skip
        table.add_column(header, justify="left" if left else "right")
    for pair in found.pairs:
        p = f" ({p_text(pair.p)})" if pair.p is not None else ""
        apart = pair.p is not None and pair.p < ALPHA
        differs = "the same runs" if pair.same_runs else ", ".join(pair.differs) or "nothing but chance"
        table.add_row(
            f"{pair.method} (control)" if pair.role == "control" else pair.method,
            percent(pair.first),
            percent(pair.second),
            Text(points(pair.difference) + p, style="bold" if apart else ""),
            str(len(pair.seeds)) if pair.role != "base" else DASH,
            differs,
        )
    notes = [Text(f"A: {first}"), Text(f"B: {second}")]
    notes.append(
        Text("p: two-sided, Holm-corrected over the rows; only over seeds and problems that both have.")
    )
    for name, rows in (("A", found.only_first), ("B", found.only_second)):
        if rows:
            notes.append(Text(f"only in {name}: {', '.join(rows)}"))
    return Group(table, *notes, *(Text(remark) for remark in found.remarks))
