"""What the pictures of curves show: for each row its points, and what the axes are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.analysis.checkpoints import frontier_curves, frontier_entropy, frontier_k
from harness.report.analysis.equal import SHARE
from harness.report.analysis.model import Report
from harness.report.analysis.scores import FloatArray, entropy_curve
from harness.report.data.groups import Group, row_of


@dataclass(frozen=True)
class Series:
    """One row's curve, means over seeds.

    Attributes:
        x, y: [T] each.
        low, high: [T] smallest and largest seed; None without a band.
        dots: [N, 2] single points of all seeds, which ``x, y`` is a fit of; None for a plain curve.
        applies: whether the fit may be read as more than a description.
    """

    x: FloatArray
    y: FloatArray
    low: FloatArray | None = None
    high: FloatArray | None = None
    dots: FloatArray | None = None
    applies: bool = True


@dataclass(frozen=True)
class Picture:
    """A picture of curves.

    Attributes:
        of: a row's series, or None where it has none.
        title, x, y, note: words; ``note`` stands below.
        evaluated: whether a control that changes the evaluation only has a curve of its own here.
        log_k: x is a number of samples, drawn on a log axis.
        path: the curve is a path of checkpoints: its end is marked, and panels leave out its first leg.
        from_zero: y begins at 0.
        at: x of a vertical line that rows are compared at.
        against: the picture of many rows, where it is another one.
        caption: for the page that shows the picture, where it depends on the records.
    """

    of: Callable[[Group], Series | None]
    title: str
    x: str
    y: str
    note: str = ""
    evaluated: bool = False
    log_k: bool = False
    path: bool = False
    from_zero: bool = False
    at: float | None = None
    against: Picture | None = None
    caption: str = ""


def entropy() -> Picture:
    """Probe entropy over training."""

    def of(group: Group) -> Series | None:
        curve = entropy_curve(group)
        if curve is None:
            return None
        values = curve.values_ST
        return Series(
            curve.steps_T.astype(float), values.mean(axis=0), values.min(axis=0), values.max(axis=0)
        )

    return Picture(
        of,
        "Probe entropy over training",
        "training step",
        "nats per token",
        note="Mean over seeds; the band spans the seeds from smallest to largest.",
        from_zero=True,
    )


def over_training(report: Report, many: bool) -> Picture:
    """pass@1, or with ``many`` pass@k, on the validation set over training: the rise and the fall."""
    k = frontier_k(report.groups)

    def of(group: Group) -> Series | None:
        curves = frontier_curves(group, k) if k else None
        if curves is None:
            return None
        curve = curves[1 if many else 0]
        values = 100 * curve.values_ST
        return Series(
            curve.steps_T.astype(float), values.mean(axis=0), values.min(axis=0), values.max(axis=0)
        )

    name = f"pass@{k or 'k'}" if many else "pass@1"
    return Picture(
        of,
        f"{name} over training",
        "training step",
        f"{name} in %, validation set",
        note="Mean over seeds; the band spans the seeds from smallest to largest. The first point is the "
        "untrained model.",
    )


def spent(report: Report) -> Picture:
    """Probe entropy against pass@k over the checkpoints."""
    k = frontier_k(report.groups)

    def of(group: Group) -> Series | None:
        curves, nats = frontier_curves(group, k) if k else None, frontier_entropy(group)
        if curves is None or nats is None or list(nats.steps_T) != list(curves[1].steps_T):
            return None
        return Series(nats.values_ST.mean(axis=0), 100 * curves[1].values_ST.mean(axis=0))

    return Picture(
        of,
        "Entropy against diversity over checkpoints",
        "probe entropy at the checkpoint, nats per token",
        f"pass@{k or 'k'} in %, validation set",
        note="Training runs from right to left. The large marker is the last checkpoint. Mean over seeds.",
        path=True,
    )


def passk(report: Report) -> Picture:
    """pass@k over k; with many rows, its difference to the reference."""

    def mean_K(group: Group) -> FloatArray | None:
        curve_SK = report.curves.get(group.key)
        if curve_SK is None or not curve_SK.shape[1]:
            return None
        return np.asarray(100 * curve_SK.mean(axis=0))

    def of(group: Group) -> Series | None:
        mean = mean_K(group)
        return None if mean is None else Series(np.arange(1.0, len(mean) + 1), mean)

    anchor = row_of(report.groups, report.reference)
    zero = mean_K(anchor) if anchor else None

    def differing(group: Group) -> Series | None:
        mean = mean_K(group)
        if mean is None or zero is None:
            return None
        width = min(len(mean), len(zero))
        return Series(np.arange(1.0, width + 1), mean[:width] - zero[:width])

    title, x = "pass@k, averaged over the test sets", "k (samples)"
    base = next((g for g in report.groups if g.role == "base" and g.method == "base"), None)
    far = _ends(differing(base)) if base is not None and zero is not None else ""
    versus = None
    if zero is not None:
        versus = Picture(
            differing,
            f"pass@k minus that of {report.reference}, averaged over the test sets",
            x,
            "points",
            note=f"Mean over seeds.{far}",
            evaluated=True,
            log_k=True,
            caption=f"pass@k minus that of {report.reference} for growing k, a panel for each family.{far}",
        )
    return Picture(of, title, x, "pass@k in %", evaluated=True, log_k=True, against=versus)


def frontier(report: Report) -> Picture:
    """pass@1 against pass@k over the checkpoints."""
    k = frontier_k(report.groups)

    def of(group: Group) -> Series | None:
        curves = frontier_curves(group, k) if k else None
        if curves is None:
            return None
        one, many = (100 * curve.values_ST.mean(axis=0) for curve in curves)
        return Series(one, many)

    note = "The large marker is the last checkpoint. Mean over seeds."
    at = None
    if report.equal is not None:
        at = 100 * report.equal.level
        note += (
            f" Dotted: the pass@1 of the table “At equal pass@1”, {100 * SHARE:.0f} % of "
            f"{report.reference}'s gain."
        )
    return Picture(
        of,
        "Accuracy against diversity over checkpoints",
        "pass@1 in %, validation set",
        f"pass@{k} in %, validation set" if k else "pass@k in %, validation set",
        note=note,
        path=True,
        at=at,
    )


def law(report: Report) -> Picture:
    """pass@1 against training entropy, with the fit over the range of its points."""

    def of(group: Group) -> Series | None:
        fit = report.discipline[group.key].law
        if fit is None:
            return None
        dots = np.array([(h, 100 * r) for own in fit.points for h, r, _ in own])
        x = np.linspace(dots[:, 0].min(), dots[:, 0].max(), 25)
        return Series(x, 100 * (fit.b.value - fit.a.value * np.exp(x)), dots=dots, applies=fit.applies)

    return Picture(
        of,
        "Score against entropy, with the fit R = −a exp(H) + b",
        "training entropy before the checkpoint, nats per token",
        "pass@1 in %, validation set",
        note="Checkpoints of all seeds; the line has the mean of the seeds' a and b. Pale and dashed: the "
        "law does not apply there (something else moves the entropy), and the fit only describes.",
    )


def _ends(series: Series | None) -> str:
    """Where the untrained model lies, because the panels hold the trained rows and it is often far out."""
    if series is None:
        return ""
    first, last = (f"{value:+.1f}".replace("-", "−") for value in (series.y[0], series.y[-1]))
    return f" The base model: {first} points at k = 1, {last} at k = {series.x[-1]:.0f}."


def limits(values: Sequence[float], pad: float = 0.05) -> tuple[float, float]:
    """Ends of an axis that holds the values with some room."""
    low, high = min(values), max(values)
    room = pad * ((high - low) or abs(high) or 1.0)
    return low - room, high + room
