"""Matplotlib as every picture uses it: fixed style, sizes in inches, PNG bytes without a date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

from harness.report.data.groups import Group
from harness.report.render.style import BASE, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Inches; 150 dots each. A README shows it at about two thirds of its size.
WIDTH = 8.4
INK, SOFT, FAINT, GRID = "#202124", "#5f6368", "#c3c8ce", "#e8eaed"

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
    "grid.color": GRID,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.solid_capstyle": "round",
}


@contextmanager
def plain_matplotlib() -> Iterator[None]:
    """Matplotlib as installed: a user's own style file must not change the bytes."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def new_figure(height: float, **options: Any) -> Figure:
    """An empty figure of the common width, ``height`` inches high."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=150, **options)
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The figure's PNG bytes, with a palette of 256 colours: a third of the size, and no eye sees it."""
    from PIL import Image

    figure.set_facecolor("white")
    canvas: Any = figure.canvas
    canvas.draw()
    width, height = canvas.get_width_height()
    pixels = canvas.buffer_rgba()
    image = Image.frombuffer("RGBA", (width, height), pixels, "raw", "RGBA", 0, 1).convert("RGB")
    buffer = BytesIO()
    small = image.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    colours, paper = list(small.getpalette() or ()), 3 * int(small.tobytes()[0])
    colours[paper : paper + 3] = (255, 255, 255)  # which the palette misses by a shade
    small.putpalette(colours)
    small.save(buffer, format="PNG", dpi=(figure.dpi, figure.dpi))
    return buffer.getvalue()


def nothing(axes: Axes) -> None:
    """Say that there is no data."""
    axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", va="center", color="#9aa0a6")


def label_of(group: Group) -> str:
    """The row's name in a picture."""
    return f"{group.label} (rec.)" if group.reconstruction else group.name


def line_of(look: Style, scale: float = 1.0) -> dict[str, Any]:
    """How matplotlib draws a row's curve."""
    return {
        "color": look.colour,
        "linestyle": look.line,
        "linewidth": look.width * scale,
        "marker": "" if look is BASE else look.marker,
        "markersize": 5.5 * scale,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6 * scale,
    }
