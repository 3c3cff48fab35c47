"""The surface of learning rates as a picture: rows x rates, the score as colour and number."""

from __future__ import annotations

import numpy as np

from harness.report.analysis.robustness import WITHIN, Surface
from harness.report.render.figures.canvas import INK, SOFT, WIDTH, new_figure, png
from harness.report.tables.protocol import plain

#: Inches: a row, what stands above and below, the names, a column at most.
_ROW, _TOP, _BOTTOM, _NAMES, _COLUMN = 0.21, 0.62, 0.3, 2.6, 1.1


def draw_surface(surface: Surface, title: str) -> bytes:
    """PNG; as high as the rows need.

    Rows are ordered by their mean over the grid; the safe range of each is framed.
    """
    from matplotlib.patches import Rectangle

    rates = surface.rates
    names = sorted(surface.rows, key=lambda name: (-surface.rows[name].mean, name))
    scores = np.array([[surface.rows[name].scores.get(rate, np.nan) for rate in rates] for name in names])
    height = _TOP + _ROW * len(names) + _BOTTOM
    width = min(_COLUMN * len(rates), WIDTH - _NAMES - 0.3)
    figure = new_figure(height)
    axes = figure.add_axes((_NAMES / WIDTH, _BOTTOM / height, width / WIDTH, _ROW * len(names) / height))
    axes.imshow(100 * scores, aspect="auto", cmap="YlGnBu")
    axes.grid(False)
    middle = float(np.nanmin(scores) + 0.62 * (np.nanmax(scores) - np.nanmin(scores)))
    for i, name in enumerate(names):
        own = surface.rows[name]
        for j, rate in enumerate(rates):
            if rate in own.scores:
                colour = "white" if own.scores[rate] > middle else INK
                axes.text(
                    j, i, f"{100 * own.scores[rate]:.1f}", ha="center", va="center", fontsize=7, color=colour
                )
        first, last = rates.index(own.low), rates.index(own.high)
        frame = (first - 0.47, i - 0.42), last - first + 0.94, 0.84
        axes.add_patch(Rectangle(*frame, fill=False, edgecolor="#e8710a", lw=1.1))
    axes.set_xticks(range(len(rates)), [plain(rate) for rate in rates], fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=7.5)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.text(0.16 / WIDTH, 1 - 0.08 / height, title, fontsize=12, fontweight="bold", va="top")
    note = f"Framed: the rates around the best that lose at most {100 * WITHIN:.0f} points."
    figure.text(0.16 / WIDTH, 0.18 / height, note, fontsize=8, color=SOFT, va="center")
    return png(figure)
