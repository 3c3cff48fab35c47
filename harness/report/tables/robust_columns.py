"""The columns of robustness: a row over the whole grid of learning rates."""

from __future__ import annotations

from harness.report.analysis.model import Line, Report
from harness.report.analysis.robustness import WITHIN, Over, Surface
from harness.report.tables.columns import DASH, NAME, Column, number_column, percent
from harness.report.tables.protocol import plain


def robust_lead(surface: Surface) -> str:
    """What the table holds, in a few sentences."""
    one = len(surface.seeds) == 1
    seeds = f"one seed ({surface.seeds[0]})" if one else f"seeds {', '.join(map(str, surface.seeds))}"
    rates = ", ".join(plain(rate) for rate in surface.grid)
    return (
        f"The tuning trials: mean of {surface.what} on the validation set, {seeds}, at every learning rate "
        f"with the knob that was chosen. Mean and worst are over the rates that all rows have ({rates}), the "
        f"best over all that a row has. Validation chose among these very numbers, so the best looks better "
        "than it is; one seed has no interval."
    )


def robust_columns(report: Report) -> list[Column]:
    """Best, mean, worst and the width of the safe range; empty without trials."""
    surface = report.robustness
    if surface is None:
        return []

    def of(line: Line) -> Over | None:
        return surface.rows.get(line.group.method) if line.group.role == "method" else None

    within = f"{100 * WITHIN:.0f} points"
    safe = f"rates around the best that lose at most {within}; ≤ and ≥: no lower or higher was tried"
    return [
        NAME,
        number_column("robust_best", "best", "score at the best rate", percent),
        number_column("robust_mean", "mean", "over the rates of the grid", percent),
        number_column("robust_worst", "worst", "over the rates of the grid", percent),
        Column(
            "robust_range",
            f"within {within}",
            safe,
            lambda line: range_text(own) if (own := of(line)) else DASH,
            lambda line: line.numbers.get("robust_rates"),
        ),
        *(_at(rate) for rate in surface.rates),
    ]


def _at(rate: float) -> Column:
    key = f"robust_at_{rate:g}"
    return number_column(key, plain(rate), "score at this learning rate", percent)


def range_text(own: Over) -> str:
    """``≤ 2e-5 to 4e-5``: an end of the tried rates is marked, for the range may go on."""
    rates = list(own.scores)
    first = f"{'≤ ' if own.low == rates[0] else ''}{plain(own.low)}"
    last = f"{'≥ ' if own.high == rates[-1] else ''}{plain(own.high)}"
    return plain(own.low) if own.low == own.high and rates[0] < own.low < rates[-1] else f"{first} to {last}"
