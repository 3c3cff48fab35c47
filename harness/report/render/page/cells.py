"""A table cell of the page: the text that every format has, and a small drawing where it says more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.analysis.model import Line
from harness.report.analysis.scores import entropy_curve
from harness.report.render.style import Style
from harness.report.tables.columns import Column, p_text, points
from harness.report.tables.sections import Section
from harness.statistics.rounding import significant

if TYPE_CHECKING:
    from markupsafe import Markup

_WIDTH, _HEIGHT = 96, 16
_SHAPES = {  # outlines of radius 1; the same as in plots.js and in the PNG files
    "o": "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1 -1 0Z",
    "s": "M-.9-.9H.9V.9H-.9Z",
    "D": "M0-1.2L1.2 0L0 1.2L-1.2 0Z",
    "^": "M0-1.1L1.1 .9H-1.1Z",
    "v": "M0 1.1L1.1-.9H-1.1Z",
    "<": "M-1.1 0L.9-1.1V1.1Z",
    ">": "M1.1 0L-.9-1.1V1.1Z",
    "P": "M-.4-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
    "X": "M-1-.5L-.5-1L0-.5L.5-1L1-.5L.5 0L1 .5L.5 1L0 .5L-.5 1L-1 .5L-.5 0Z",
    "*": "M0-1.3L.32-.42H1.24L.5 .13L.77 1.05L0 .5L-.77 1.05L-.5 .13L-1.24-.42H-.32Z",
}


@dataclass(frozen=True)
class Scales:
    """What the small drawings of one table share.

    Attributes:
        scores: smallest and largest pass@1 that an interval reaches, shares in [0, 1].
        reference: pass@1 of the reference.
        entropy: largest probe entropy, nats.
    """

    scores: tuple[float, float] | None
    reference: float | None
    entropy: float

    @classmethod
    def of(cls, section: Section, reference: str) -> Scales:
        lines = [line for _, block in section.blocks for line in block]
        ends = [end for line in lines if line.interval for end in (line.interval.low, line.interval.high)]
        ends += [line.score for line in lines if line.score is not None]
        anchor = next((line.score for line in lines if line.group.label == reference), None)
        curves = [entropy_curve(line.group) for line in lines]
        top = max((float(c.values_ST.mean(axis=0).max()) for c in curves if c is not None), default=0.0)
        return cls((min(ends), max(ends)) if ends else None, anchor, top)


def cell(line: Line, column: Column, scales: Scales, look: Style) -> Markup:
    """``<td>`` or, for the name, ``<th>``; ``data-sort`` holds what the column is sorted by."""
    from markupsafe import Markup, escape

    value = column.value(line)
    sort = "" if value is None else value if isinstance(value, str) else f"{significant(value):.9g}"
    if column.key == "method":
        marks = Markup("").join(Markup('<span class="mark">{}</span>').format(mark) for mark in line.marks)
        return Markup(
            '<th scope="row" class="method" data-key="method" data-sort="{}">{}'
            '<button class="name" type="button">{}</button>{}</th>'
        ).format(sort, swatch(look), line.group.name, marks)
    content = escape(column.text(line))
    css = ["wide-column"] if column.wide else []
    if column.key == "interval":
        content = Markup('{} <span class="pm">{}</span>').format(_whisker(line, scales), content)
    elif column.key == "delta" and line.p is not None and line.delta is not None:
        content = Markup('{} <span class="p">{}</span>').format(points(line.delta), p_text(line.p))
        css += [("up" if line.delta > 0 else "down")] if line.p < 0.05 else []
    elif column.key == "rank":
        css.append("rank")
    elif column.key == "entropy":
        content = Markup("{} {}").format(_spark(line, scales), content)
    shown = Markup(' class="{}"').format(" ".join(css)) if css else ""
    tip = Markup(' data-tip="{}"').format(column.text(line)) if column.key in ("interval", "entropy") else ""
    return Markup('<td data-key="{}" data-sort="{}"{}{}>{}</td>').format(
        column.key, sort, shown, tip, content
    )


def swatch(look: Style) -> Markup:
    """Line and marker of a row, as in the plots."""
    from markupsafe import Markup

    dashes = " ".join(f"{d * look.width:g}" for d in look.dashes)
    return Markup(
        '<svg class="swatch" width="26" height="12" aria-hidden="true"><line x1="1" x2="25" y1="6" y2="6" '
        'class="look" stroke-width="{}"{}/>'
        '<path class="fill" transform="translate(13 6) scale(3.6)" d="{}"/></svg>'
    ).format(
        f"{look.width:g}",
        Markup(' stroke-dasharray="{}"').format(dashes) if dashes else "",
        _SHAPES[look.marker],
    )


def _whisker(line: Line, scales: Scales) -> Markup:
    """pass@1 with its interval on an axis that all rows share; a dashed line at the reference."""
    from markupsafe import Markup

    if line.score is None or scales.scores is None:
        return Markup("")
    low, high = scales.scores

    def x(score: float) -> str:
        return f"{4 + (_WIDTH - 8) * (score - low) / (high - low or 1):.1f}"

    middle = _HEIGHT // 2
    parts = [f'<svg class="whisker" width="{_WIDTH}" height="{_HEIGHT}" aria-hidden="true">']
    if scales.reference is not None:
        at = x(scales.reference)
        parts.append(f'<line class="zero" x1="{at}" x2="{at}" y1="0" y2="{_HEIGHT}"/>')
    if line.interval is not None:
        ends = f'x1="{x(line.interval.low)}" x2="{x(line.interval.high)}"'
        parts.append(f'<line class="look" stroke-width="2" {ends} y1="{middle}" y2="{middle}"/>')
    parts.append(f'<circle class="fill" cx="{x(line.score)}" cy="{middle}" r="3.6"/></svg>')
    return Markup("".join(parts))


def _spark(line: Line, scales: Scales) -> Markup:
    """The course of the probe entropy from 0 nats up to the table's largest."""
    from markupsafe import Markup

    curve = entropy_curve(line.group)
    if curve is None or len(curve.steps_T) < 2 or not scales.entropy:
        return Markup("")
    mean, last = curve.values_ST.mean(axis=0), float(curve.steps_T[-1]) or 1.0
    path = "L".join(
        f"{1 + 46 * step / last:.1f} {15 - 14 * value / scales.entropy:.1f}"
        for step, value in zip(curve.steps_T, mean, strict=True)
    )
    return Markup(
        f'<svg class="whisker" width="48" height="{_HEIGHT}" aria-hidden="true">'
        f'<path class="look" stroke-width="1.5" d="M{path}"/></svg>'
    )
