"""The papers' printed numbers beside ours, as one more table of the report."""

from __future__ import annotations

from harness.report.analysis.model import Report
from harness.report.tables.columns import DASH

HEADING = "Reported and reproduced"
HEADERS = ("method", "model", "benchmark", "metric", "printed", "ours", "our protocol", "source")


def printed_lead(report: Report) -> str:
    """How many printed numbers there are, how many stand beside ours, and what keeps the others apart."""
    pairs = report.beside
    papers = len({pair.reported.paper for pair in pairs})
    there = sum(pair.ours is not None for pair in pairs)
    reasons: dict[str, int] = {}
    for pair in pairs:
        if pair.ours is None:
            reasons[pair.why_not] = reasons.get(pair.why_not, 0) + 1
    told = "; ".join(
        f"{reason} ({count})" for reason, count in sorted(reasons.items(), key=lambda r: (-r[1], r))
    )
    return (
        f"{there} of {len(pairs)} printed numbers about these methods ({papers} papers) stand beside ours. "
        "Equal names are not equal protocols: papers sample, prompt and grade in their own ways."
        + (f" Not set beside: {told}." if told else "")
    )


def printed_rows(report: Report) -> list[tuple[str, ...]]:
    """One row for each number that stands beside ours."""
    return [
        (
            pair.method,
            pair.reported.model,
            pair.reported.benchmark,
            pair.reported.metric,
            _number(pair.reported.value) + ("" if pair.reported.certain else " (uncertain)"),
            DASH if pair.ours is None else f"{pair.ours:.1f}",
            pair.profile,
            f"{pair.reported.arxiv}, {pair.reported.source}",
        )
        for pair in report.beside
        if pair.ours is not None
    ]


def _number(value: float) -> str:
    return f"{value:g}"
