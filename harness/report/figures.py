"""The three pictures: entropy over training, pass@k over k, and the frontier of the checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.report.data import looks_of, row_id
from harness.report.model import Report
from harness.report.records import Group
from harness.report.scores import entropy_curve, frontier_curves, frontier_k
from harness.report.style import BASE, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More curves than this cannot be told apart; the best by headline score are drawn, the picture says so.
MAX_CURVES = 18

_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa0a6",
    "axes.labelcolor": "#3c4043",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8eaed",
    "xtick.color": "#5f6368",
    "ytick.color": "#5f6368",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.solid_capstyle": "round",
}


def draw_figures(report: Report) -> dict[str, bytes]:
    """PNG files by name. They hold no date and no software tag, so equal records give equal bytes."""
    drawn = _drawn(report)
    looks = looks_of(report)
    limited = sum(group.role != "base" for group in report.groups) > MAX_CURVES
    with _plain_matplotlib():
        return {
            "entropy.png": _png(lambda axes: _entropy(axes, drawn, looks, limited)),
            "passk.png": _png(lambda axes: _passk(axes, report, drawn, looks, limited)),
            "frontier.png": _png(lambda axes: _frontier(axes, drawn, looks, limited)),
        }


def _drawn(report: Report) -> list[Group]:
    """Base and reference always, the others best first up to the limit."""
    lines = [line for line in report.tables[0].lines if line.group.role != "base"]
    lines.sort(
        key=lambda line: (line.group.label != report.reference, -(line.score or 0.0), line.group.label)
    )
    kept = [line.group for line in lines[:MAX_CURVES]]
    return [group for group in report.groups if group.role == "base"][:1] + kept


@contextmanager
def _plain_matplotlib() -> Iterator[None]:
    """Matplotlib as installed: a user's own style file must not change the bytes."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def _png(draw: Callable[[Axes], None]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw(axes)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, handlelength=3
        )
    else:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", va="center", color="#9aa0a6")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None}, facecolor="white")
    return buffer.getvalue()


def _label(group: Group) -> str:
    if group.role == "base":
        return "base model"
    return f"{group.label} (rec.)" if group.reconstruction else group.label


def _look(group: Group, looks: dict[str, Style]) -> Style:
    return looks[row_id(group)]


def _titles(axes: Axes, title: str, x: str, y: str, limited: bool) -> None:
    axes.set_title(title + (f"  (best {MAX_CURVES} rows)" if limited else ""))
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _every(count: int) -> int:
    """Marker spacing that leaves about eight markers on a curve."""
    return max(1, count // 8)


def _entropy(axes: Axes, drawn: list[Group], looks: dict[str, Style], limited: bool) -> None:
    _titles(axes, "Probe entropy over training", "training step", "nats per token", limited)
    for group in drawn:
        curve, look = entropy_curve(group), _look(group, looks)
        if curve is None:
            continue
        mean = curve.values_ST.mean(axis=0)
        if group.role == "base":
            axes.axhline(float(mean[0]), color=look.colour, ls=look.line, lw=look.width, label=_label(group))
            continue
        axes.fill_between(
            curve.steps_T,
            curve.values_ST.min(axis=0),
            curve.values_ST.max(axis=0),
            color=look.colour,
            alpha=0.13,
            lw=0,
        )
        axes.plot(curve.steps_T, mean, label=_label(group), **_line(look), markevery=_every(len(mean)))
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)


def _passk(axes: Axes, report: Report, drawn: list[Group], looks: dict[str, Style], limited: bool) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    _titles(axes, "pass@k, averaged over the test sets", "k (samples)", "pass@k in %", limited)
    widest = 1
    for group in drawn:
        curve_SK = report.curves.get((group.role, group.method))
        if curve_SK is None or not curve_SK.shape[1]:
            continue
        mean = 100 * curve_SK.mean(axis=0)
        ks = np.arange(1, len(mean) + 1)
        widest = max(widest, len(mean))
        # Markers at the powers of two, where the table has its columns.
        marks = [k - 1 for k in (1, 2, 4, 8, 16, 32) if k <= len(mean)]
        axes.plot(ks, mean, label=_label(group), **_line(_look(group, looks)), markevery=marks)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator([k for k in (1, 2, 4, 8, 16, 32) if k <= max(widest, 2)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _frontier(axes: Axes, drawn: list[Group], looks: dict[str, Style], limited: bool) -> None:
    k = frontier_k(drawn)
    _titles(
        axes,
        "Accuracy against diversity over checkpoints",
        "pass@1 in %, validation set",
        f"pass@{k} in %, validation set" if k else "pass@k in %, validation set",
        limited,
    )
    starts: list[tuple[float, float]] = []
    for group in drawn:
        curves = frontier_curves(group, k) if k else None
        if curves is None:
            continue
        look = _look(group, looks)
        x, y = (100 * curve.values_ST.mean(axis=0) for curve in curves)
        if curves[0].steps_T[0] == 0:
            starts.insert(0 if group.role == "base" else len(starts), (float(x[0]), float(y[0])))
        if group.role == "base":
            continue
        axes.plot(x, y, label=_label(group), **{**_line(look), "markersize": 4})
        axes.plot(x[-1:], y[-1:], color=look.colour, marker=look.marker, ms=9, mec="white", mew=1, zorder=4)
    if starts:
        axes.plot(
            *([value] for value in starts[0]),
            color=BASE.colour,
            marker=BASE.marker,
            ms=17,
            mec="white",
            ls="none",
            zorder=5,
            label="base model",
        )
        axes.text(
            0.0, -0.16, "Each curve starts at the base model; the large marker is the last checkpoint. "
            "Mean over seeds.", transform=axes.transAxes, fontsize=8.5, color="#5f6368", va="top",
        )  # fmt: skip


def _line(look: Style) -> dict[str, Any]:
    return {
        "color": look.colour,
        "linestyle": look.line,
        "linewidth": look.width,
        "marker": "" if look is BASE else look.marker,
        "markersize": 5.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
    }
