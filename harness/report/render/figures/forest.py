"""The differences to the reference as a picture: one line a row, ordered, with its own 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.report.analysis.levels import ALPHA, LEVEL, POWER
from harness.report.analysis.model import CONTROLS, RECONSTRUCTIONS, Line, Report
from harness.report.data.groups import row_of
from harness.report.render.figures.canvas import INK, SOFT, WIDTH, label_of, new_figure, nothing, png
from harness.report.render.plot_data import looks_of
from harness.report.render.style import Style
from harness.report.tables.columns import points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Inches: a row, a block's heading, what stands above and below, and the columns of words and numbers.
_ROW, _HEADING, _TOP, _BOTTOM, _NAMES, _NUMBERS = 0.2, 0.32, 0.58, 0.95, 2.35, 1.45
#: A row farther out than this many smallest detectable differences would squeeze all others: an arrow.
_FAR = 4.0
_MARGIN = 0.16 / WIDTH


def draw_forest(report: Report) -> bytes:
    """PNG; as high as the rows need."""
    table = report.tables[0]
    blocks = forest_blocks(report)
    rows = sum(len(lines) for _, lines in blocks)
    height = max(2.2, _TOP + _ROW * rows + _HEADING * len(blocks) + _BOTTOM)
    figure = new_figure(height)
    axes = figure.add_axes(
        (_NAMES / WIDTH, _BOTTOM / height, 1 - (_NAMES + _NUMBERS) / WIDTH, 1 - (_TOP + _BOTTOM) / height)
    )
    anchor = row_of(report.groups, report.reference)
    which = f"{'tuned ' if anchor and anchor.tuned else ''}{report.reference}"
    title, below = f"Difference in pass@1 to {which}", "averaged over the test sets, in points"
    figure.text(_MARGIN, 1 - 0.14 / height, title, fontsize=12, fontweight="bold", va="top")
    figure.text(_MARGIN, 1 - 0.4 / height, below, fontsize=8.5, color=SOFT, va="top")
    _frame(axes, height - _TOP - _BOTTOM)
    if not rows:
        nothing(axes)
        return png(figure)
    left, right = _reach(table.detectable, [line for _, lines in blocks for line in lines])
    axes.set_xlim(left, right)
    if table.detectable is not None:
        axes.axvspan(-100 * table.detectable, 100 * table.detectable, color="#eef1f5", lw=0, zorder=0)
    axes.axvline(0, color=INK, lw=1, zorder=2)
    looks = looks_of(report)
    at = 0.0
    for name, lines in blocks:
        axes.text(-0.01, at + 0.72 * _HEADING, name, transform=axes.get_yaxis_transform(), ha="right",
                  va="center", fontsize=8, color=SOFT, fontweight="bold")  # fmt: skip
        at += _HEADING
        for line in lines:
            _row(axes, line, looks[line.group.key], at + _ROW / 2, (left, right))
            at += _ROW
    _say(figure, height, table.detectable, table.comparisons)
    return png(figure)


def forest_blocks(report: Report) -> list[tuple[str, list[Line]]]:
    """Rows with a difference, largest first: methods, reconstructions, controls; zero is the reference."""
    found: dict[str, list[Line]] = {"Methods": [], RECONSTRUCTIONS.partition(" ")[0]: [], CONTROLS: []}
    for line in report.tables[0].lines:
        if line.delta is not None:
            kind = line.block.partition(" ")[0] if line.block in (RECONSTRUCTIONS, CONTROLS) else "Methods"
            found[kind].append(line)
    ordered = {
        name: sorted(lines, key=lambda line: (-(line.delta or 0.0), line.group.label))
        for name, lines in found.items()
    }
    return [(name, lines) for name, lines in ordered.items() if lines]


def _reach(detectable: float | None, lines: Sequence[Line]) -> tuple[float, float]:
    """Ends of the axis in points: they hold the band, zero, and every row that is not far out."""
    far = 100 * _FAR * detectable if detectable else float("inf")
    ends = [0.0] if detectable is None else [-100 * detectable, 100 * detectable]
    for line in lines:
        if abs(100 * (line.delta or 0.0)) <= far:
            low, high = line.delta_interval or (line.delta or 0.0, line.delta or 0.0)
            ends += [100 * low, 100 * high]
    room = 0.04 * ((max(ends) - min(ends)) or 1.0)
    return min(ends) - room, max(ends) + room


def _frame(axes: Axes, inches: float) -> None:
    axes.set_ylim(inches, 0)
    axes.set_yticks([])
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", labelsize=8, length=0)


def _row(axes: Axes, line: Line, look: Style, at: float, ends: tuple[float, float]) -> None:
    value = 100 * (line.delta or 0.0)
    told = line.p is not None and line.p < ALPHA
    words = points(line.delta)
    if line.delta_interval is not None:
        low, high = line.delta_interval
        words += f"  [{points(low)}, {points(high)}]"
        axes.plot(
            [100 * low, 100 * high], [at, at], color=look.colour, lw=1.3, solid_capstyle="butt", zorder=3
        )
    if ends[0] <= value <= ends[1]:
        axes.plot([value], [at], marker=look.marker, color=look.colour, ms=6, mec=look.colour, mew=1.2,
                  mfc=look.colour if told else "white", zorder=4)  # fmt: skip
    else:
        edge, arrow = (ends[0], "◂") if value < ends[0] else (ends[1], "▸")
        axes.text(edge, at, arrow, color=look.colour, fontsize=10, ha="left" if value < 0 else "right",
                  va="center_baseline")  # fmt: skip
    weight = "bold" if told else "normal"
    name = label_of(line.group).removesuffix(" (control)").removesuffix(" (rec.)")
    marks = f" ({', '.join(line.marks)})" if line.marks else ""
    beside = axes.get_yaxis_transform()
    axes.text(
        -0.01, at, name + marks, transform=beside, ha="right", va="center", fontsize=8, fontweight=weight
    )
    axes.text(
        1.015, at, words, transform=beside, ha="left", va="center", fontsize=7.5, color=INK if told else SOFT
    )


def _say(figure: Figure, height: float, detectable: float | None, comparisons: int) -> None:
    lines = [
        f"Line: the row's own {100 * LEVEL:.0f} % interval over seeds and problems, not corrected for the "
        "number of rows. Filled and bold:",
        f"differs beyond chance after Holm's correction over {comparisons} rows (p < {ALPHA:g}). "
        "Controls and reconstructions are never ranked.",
    ]
    if detectable is not None:
        lines.append(
            f"Band: ± {100 * detectable:.1f} points; a true difference of that size is found with "
            f"{100 * POWER:.0f} % probability. ◂ ▸ lies beyond the axis."
        )
    figure.text(
        _MARGIN,
        (_BOTTOM - 0.36) / height,
        "\n".join(lines),
        fontsize=7.5,
        color=SOFT,
        va="top",
        linespacing=1.35,
    )
