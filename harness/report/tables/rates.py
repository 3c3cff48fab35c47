"""A sweep with a table for each learning rate: its rows over the rates, by the test sets and all seeds."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.analysis.model import Line, Report
from harness.report.analysis.robustness import Point, Surface, surface
from harness.report.tables.columns import percent
from harness.report.tables.protocol import plain
from harness.report.tables.robust_columns import range_text

HEADERS = ("row", "best", "mean", "worst", "within 2 points")


def surfaces_of(reports: Sequence[Report]) -> list[Surface]:
    """pass@1 and pass@k over the rates, averaged over the test sets.

    Empty unless the reports are of one model and one problem set, each of one rate, and of different ones.

    Raises:
        ValueError: a row lacks a rate, or rows differ in seeds or budget.
    """
    rates = [_rates(report) for report in reports]
    places = {(r.model, r.benchmark) for report in reports for g in report.groups for r in g.records}
    if len(reports) < 2 or len(places) != 1 or any(len(own) != 1 for own in rates):
        return []
    if len({min(own) for own in rates}) < len(reports):
        return []
    top = min((report.tables[0].top_k or 1) for report in reports)
    found = []
    for k in sorted({1, top}):
        points = [
            _point(line, min(own), line.pass_at[k])
            for report, own in zip(reports, rates, strict=True)
            for line in report.tables[0].lines
            if line.group.trainings and "train.lr" not in line.group.changes and k in line.pass_at
        ]
        one = surface(points, f"pass@{k}")
        found += [one] if one else []
    return found


def surface_lines(found: Surface) -> list[str]:
    """Markdown: heading, what it is, a line for each row, the best mean first."""
    rates = [plain(rate) for rate in found.rates]
    seeds = ", ".join(map(str, found.seeds))
    out = [
        f"## Over all learning rates: {found.what}",
        "",
        f"{found.what} in %, averaged over the test sets, mean of seeds {seeds}; no rate is "
        "chosen for any row. ≤ and ≥: no lower or higher rate was tried.",
        "",
        "| " + " | ".join([*HEADERS, *rates]) + " |",
        "|:--|" + "--:|" * (len(HEADERS) + len(rates) - 1),
    ]
    for name, own in sorted(found.rows.items(), key=lambda pair: (-pair[1].mean, pair[0])):
        cells = [percent(own.best), percent(own.mean), percent(own.worst), range_text(own)]
        cells += [percent(own.scores.get(rate)) for rate in found.rates]
        out.append("| " + " | ".join([name, *cells]) + " |")
    return [*out, ""]


def _rates(report: Report) -> set[float]:
    """The rates of the methods' own rows; controls may change theirs."""
    return {
        float(record.train["lr"])
        for group in report.groups
        if group.role == "method"
        for record in group.records
        if record.train.get("lr") is not None
    }


def _point(line: Line, rate: float, score: float) -> Point:
    budget = line.group.records[0].train.get("token_budget")
    return Point(line.group.label, rate, score, line.group.seeds, None if budget is None else int(budget))
