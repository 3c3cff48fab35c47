"""Curves of all rows: together in one panel while they are few, else a panel for each family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.report.analysis.model import Report
from harness.report.data.groups import Group, method_key
from harness.report.render.figures.canvas import (
    FAINT,
    GRID,
    INK,
    SOFT,
    WIDTH,
    label_of,
    line_of,
    new_figure,
    nothing,
    png,
)
from harness.report.render.figures.pictures import Picture, Series, limits
from harness.report.render.plot_data import looks_of
from harness.report.render.style import BASE, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KS = (1, 2, 4, 8, 16, 32)
#: Rows beside the base model that one panel can hold and a reader still tell apart.
TOGETHER = 10
COLUMNS = 4
#: The rows with the best families fill this many panels; a longer picture helps nobody.
MAX_PANELS = 48
#: Rows outside their panels that the note names.
_NAMED = 6
_PANEL_HEIGHT, _GAP_X, _GAP_Y, _LEFT, _RIGHT = 1.28, 0.13, 0.3, 0.4, 0.08  # inches


@dataclass(frozen=True)
class PanelRow:
    """A row of the report with its curve and its look."""

    group: Group
    series: Series
    look: Style

    @property
    def base(self) -> bool:
        return self.group.role == "base"


def draw_picture(report: Report, picture: Picture) -> bytes:
    """PNG of one picture."""
    picture, trained = shown(report, picture), _trained(report, picture)
    base = [group for group in report.groups if group.role == "base"][:1]
    looks = looks_of(report)
    rows = [
        PanelRow(group, series, looks[group.key])
        for group in [*base, *trained]
        if (series := picture.of(group)) is not None
    ]
    families = _families([row for row in rows if not row.base], report.reference)
    if len(trained) <= TOGETHER or len(families) < 2:
        return _together(picture, rows)
    return _panels(picture, rows, families, report.reference)


def shown(report: Report, picture: Picture) -> Picture:
    """The picture that stands for so many rows."""
    many = len(_trained(report, picture)) > TOGETHER
    return picture.against if many and picture.against is not None else picture


def _trained(report: Report, picture: Picture) -> list[Group]:
    return [
        group
        for group in (line.group for line in report.tables[0].lines)
        if group.role != "base" and (picture.evaluated or not group.evaluation_only)
    ]


def _together(picture: Picture, rows: Sequence[PanelRow]) -> bytes:
    figure = new_figure(4.8, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(picture.title)
    axes.set_xlabel(picture.x)
    axes.set_ylabel(picture.y)
    for row in rows:
        _draw(axes, picture, row, 1.0, label=label_of(row.group))
    _finish(axes, picture, rows)
    if rows:
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(
            handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, handlelength=3
        )
    else:
        nothing(axes)
    if picture.note:
        text = _wrapped("Every curve comes from the base model. " * picture.path + picture.note, 95)
        axes.text(0.0, -0.16, text, transform=axes.transAxes, fontsize=8.5, color=SOFT, va="top")
    return png(figure)


def _families(rows: Sequence[PanelRow], reference: str) -> list[tuple[str, list[PanelRow]]]:
    """``(name, rows)`` of each panel in the order of the table, controls last; the reference is in all."""
    found: dict[str, list[PanelRow]] = {}
    for row in sorted(rows, key=lambda row: row.group.role == "control"):
        control = row.group.role == "control"
        found.setdefault("controls" if control else row.group.method.partition("@")[0], []).append(row)
    own = found.get(reference)
    if own is not None and len(own) == 1:
        del found[reference]
    return list(found.items())


def _panels(
    picture: Picture, rows: Sequence[PanelRow], families: Sequence[tuple[str, list[PanelRow]]], reference: str
) -> bytes:
    left_out = len(families) - MAX_PANELS
    if left_out > 0:
        families = [*families[: MAX_PANELS - 1], families[-1]]
    anchor = next((r for r in rows if r.group.key == method_key(reference)), None)
    base = next((row for row in rows if row.base), None)
    bounds = _bounds(picture, rows)
    # the base model's place is told in words where it matters
    beyond = {id(row): _outside(picture, row, bounds) for row in rows if not row.base}
    note = _wrapped(
        _panel_note(picture, [row for row in rows if beyond.get(id(row), False) is not False]), 128
    )
    lines = ceil(len(families) / COLUMNS)
    top, bottom = 0.92, 0.55 + 0.13 * (note.count("\n") + 1) * bool(note)
    height = top + lines * _PANEL_HEIGHT + (lines - 1) * _GAP_Y + bottom
    width = (WIDTH - _LEFT - _RIGHT - (COLUMNS - 1) * _GAP_X) / COLUMNS
    figure = new_figure(height)
    others = [row.series for row in rows if row.group.role == "method" and row is not anchor]
    ticks = KS if picture.log_k else _nice(*bounds[0]), _nice(*bounds[1])
    for index, (name, own) in enumerate(families):
        line, column = divmod(index, COLUMNS)
        left, low = (
            _LEFT + column * (width + _GAP_X),
            height - top - (line + 1) * _PANEL_HEIGHT - line * _GAP_Y,
        )
        axes = figure.add_axes((left / WIDTH, low / height, width / WIDTH, _PANEL_HEIGHT / height))
        _background(axes, others)
        for row in (base, anchor):
            if row is not None and row not in own:
                _draw(axes, picture, row, 0.6)
        for row in own:
            unseen = beyond[id(row)]  # then the legend would name what nobody finds
            _draw(axes, picture, row, 0.75, label=None if unseen else _variant(row.group, name, len(own)))
        _finish(axes, picture, rows, start=False)
        axes.set_xlim(*bounds[0])
        axes.set_ylim(*bounds[1])
        _ticks(axes, ticks, left=column == 0, below=index + COLUMNS >= len(families))
        _dress(axes, name, own)

    def write(text: str, at: float, size: float, colour: str, weight: str = "normal") -> None:
        """A line of text whose top is ``at`` inches below the picture's."""
        figure.text(
            _LEFT / WIDTH, 1 - at / height, text, fontsize=size, color=colour, fontweight=weight, va="top"
        )

    said = [f"black: {reference}"] if anchor is not None else []
    if (
        base is not None
        and not picture.path
        and ((base.series.y > bounds[1][0]) & (base.series.y < bounds[1][1])).any()
    ):
        said.append("grey dashes: base model")
    if left_out > 0:
        said.append(f"the best {MAX_PANELS} families, {left_out} more in the tables")
    write(picture.title, 0.12, 12, INK, "bold")
    write(" · ".join([f"up: {picture.y}", f"across: {picture.x}"]), 0.36, 8, INK)
    write(" · ".join(["pale: the other methods", *said]), 0.52, 8, SOFT)
    write(note, height - bottom + 0.36, 7.5, SOFT)
    return png(figure)


def _background(axes: Axes, others: Sequence[Series]) -> None:
    """All methods, pale: one artist, whatever their number."""
    from matplotlib.collections import LineCollection

    paths = [np.column_stack([series.x, series.y]) for series in others]
    axes.add_collection(LineCollection(paths, colors=FAINT, linewidths=0.5, alpha=0.6, zorder=1))


def _draw(axes: Axes, picture: Picture, row: PanelRow, scale: float, label: str | None = None) -> None:
    """One row's curve with its band, its dots and its marks."""
    series, look, kind = row.series, row.look, line_of(row.look, scale)
    small = scale < 1
    if row.base and picture.path:  # a point, which _finish draws
        return
    if row.base and len(series.y) == 1:  # a level: a line through a single point could not be seen
        axes.axhline(float(series.y[0]), color=look.colour, ls=look.line, lw=look.width * scale, label=label)
        return
    if series.low is not None and series.high is not None:
        axes.fill_between(series.x, series.low, series.high, color=look.colour, alpha=0.13, lw=0)
    if series.dots is not None and label is None:  # behind another row: the line is enough
        axes.plot(series.x, series.y, color=look.colour, lw=look.width * scale)
        return
    if series.dots is not None:
        shade = 1.0 if series.applies else 0.45
        axes.plot(*series.dots.T, ls="none", marker=look.marker, color=look.colour, alpha=shade,
                  ms=4.5 * scale, mec="white", mew=0.4)  # fmt: skip
        # its marker is for the legend alone: the dots are the checkpoints
        axes.plot(series.x, series.y, color=look.colour, alpha=shade, lw=look.width * scale,
                  marker=look.marker, ms=4.5 * scale, markevery=[], label=label,
                  ls="-" if series.applies else "--")  # fmt: skip
        return
    count = len(series.x)
    if picture.log_k:  # markers at the powers of two, where the table has its columns
        marks: list[int] | int = [k - 1 for k in KS if k <= count]
    else:
        marks = max(1, count // (4 if small else 8))
    if picture.path:
        kind, marks = {**kind, "markersize": 4 * scale}, 1
    axes.plot(series.x, series.y, label=label, **kind, markevery=marks)
    if picture.path:
        axes.plot(series.x[-1:], series.y[-1:], color=look.colour, marker=look.marker, ms=9 * scale,
                  mec="white", mew=1 * scale, zorder=4)  # fmt: skip


def _finish(axes: Axes, picture: Picture, rows: Sequence[PanelRow], *, start: bool = True) -> None:
    """Axes and marks that belong to the picture and not to a row."""
    if picture.at is not None and rows:
        axes.axvline(picture.at, color=SOFT, lw=0.8, ls=(0, (1, 2)), zorder=0)
    if picture.log_k:
        from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

        widest = max((len(row.series.x) for row in rows), default=1)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator([k for k in KS if k <= max(widest, 2)]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    if picture.path and rows and start:
        first = next((row for row in rows if row.base), rows[0]).series
        axes.plot(first.x[:1], first.y[:1], color=BASE.colour, marker=BASE.marker, ms=17, mec="white",
                  ls="none", zorder=5, label="base model")  # fmt: skip
    if picture.from_zero:
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)


def _outside(
    picture: Picture, row: PanelRow, bounds: tuple[tuple[float, float], tuple[float, float]]
) -> bool | None:
    """Whether all of a row lies beyond the panel's axes; None: a part does. A path's start does not count."""
    series, first = row.series, 1 if picture.path else 0
    x, y = (series.x[first:], series.y[first:]) if series.dots is None else series.dots.T
    (x0, x1), (y0, y1) = bounds
    off = (x < x0) | (x > x1) | (y < y0) | (y > y1)
    return True if off.all() else None if off.any() else False


def _panel_note(picture: Picture, leaving: Sequence[PanelRow]) -> str:
    """The picture's note, and what the panels' common axes cut off."""
    parts = ["Every curve comes from the base model: that first leg is left out."] if picture.path else []
    parts += [picture.note] if picture.note else []
    if leaving:
        names = [label_of(row.group).removesuffix(" (control)") for row in leaving]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        parts.append(f"Partly or wholly outside its panel: {', '.join(names[:_NAMED])}{more}.")
    return " ".join(parts)


def _nice(low: float, high: float) -> tuple[float, ...]:
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return tuple(float(value) for value in found if low <= value <= high)


def _ticks(
    axes: Axes, ticks: tuple[tuple[float, ...], tuple[float, ...]], *, left: bool, below: bool
) -> None:
    """Grid lines in every panel, numbers on the outer ones: matplotlib's own ticks take most of its time."""
    from matplotlib.collections import LineCollection

    axes.xaxis.set_visible(False)
    axes.yaxis.set_visible(False)
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    across = [x for x in ticks[0] if x0 <= x <= x1]
    lines = [[(x, y0), (x, y1)] for x in across] + [[(x0, y), (x1, y)] for y in ticks[1]]
    axes.add_collection(LineCollection(lines, colors=GRID, linewidths=0.5, zorder=0), autolim=False)
    small: dict[str, Any] = {"fontsize": 7, "color": SOFT}
    for x in across if below else ():
        axes.text(x, -0.04, f"{x:g}", transform=axes.get_xaxis_transform(), ha="center", va="top", **small)
    for y in ticks[1] if left else ():
        axes.text(-0.02, y, f"{y:g}", transform=axes.get_yaxis_transform(), ha="right", va="center", **small)


def _dress(axes: Axes, name: str, own: Sequence[PanelRow]) -> None:
    """Title in the family's colour, and the names of several variants."""
    look = own[0].look
    rebuilt = " (rec.)" if all(row.group.reconstruction for row in own) else ""
    colour = INK if name == "controls" else look.colour
    axes.set_title(name + rebuilt, fontsize=8.5, color=colour, pad=3)
    if len(own) > 1 and axes.get_legend_handles_labels()[0]:
        axes.legend(
            fontsize=6, loc="best", handlelength=2.6, borderaxespad=0.1, labelspacing=0.2, borderpad=0.2,
            frameon=True, framealpha=0.8, facecolor="white", edgecolor="none",
        )  # fmt: skip


def _variant(group: Group, family: str, count: int) -> str:
    """How a row is called within its panel."""
    if count == 1:
        return ""
    name = group.method.removeprefix(f"{family}@")
    return f"{name} (rec.)" if group.reconstruction else name


def _bounds(picture: Picture, rows: Sequence[PanelRow]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Common ends of the panels' axes: they hold the methods, and what lies far out leaves the panel."""
    methods = [row.series for row in rows if row.group.role == "method"]
    first = 1 if picture.path else 0  # a path's first leg, from the base model, is the same for all
    spans = [
        (s.x[first:], s.y[first:]) if s.dots is None else (s.dots[:, 0], s.dots[:, 1])
        for s in methods
        if len(s.x) > first
    ]
    x = limits([float(end) for xs, _ in spans for end in (xs.min(), xs.max())])
    lows, highs = (np.array([float(edge(ys)) for _, ys in spans]) for edge in (np.min, np.max))
    reach = highs.max() - np.median(lows)
    y = limits([float(lows[lows >= np.median(lows) - 1.5 * reach].min()), float(highs.max())], 0.09)
    if picture.log_k:
        x = 0.9, 1.1 * x[1]
    return x, (max(0.0, y[0]), y[1]) if picture.from_zero else y


def _wrapped(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))
