"""One look per method everywhere: colour, marker and line style, safe for colour-blind readers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

# Paul Tol's "muted" scheme, made for colour-blind readers, darkened where it is too light for lines on white.
COLOURS = ("#332288", "#CC6677", "#117733", "#AA4499", "#3A9BDC", "#999933", "#882255", "#44AA99", "#D9822B")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-",
    (0, (5, 1.6)),
    (0, (1.2, 1.2)),
    (0, (5, 1.5, 1.2, 1.5)),
)


@dataclass(frozen=True)
class Style:
    """How matplotlib and the page draw one method."""

    colour: str
    marker: str
    dash: str | tuple[int, tuple[float, ...]]
    width: float = 1.8


BASE = Style("#555555", "*", (0, (2, 2)), 1.6)
REFERENCE = Style("#000000", "o", "-", 2.4)


def styles(methods: Iterable[str], reference: str) -> dict[str, Style]:
    """A distinct style per name, for up to 36 names besides the reference, which is always black.

    A name asks for the colour its hash picks and takes the next free one if a name before it in the
    alphabet has it; once all nine colours are taken the next nine names get another line style and marker.
    """
    chosen: dict[str, Style] = {}
    free: list[int] = []
    cycle = -1
    for name in sorted(set(methods) - {reference}):
        if not free:
            free = list(range(len(COLOURS)))
            cycle += 1
        wish = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % len(COLOURS)
        index = min(free, key=lambda slot: (slot - wish) % len(COLOURS))
        free.remove(index)
        marker = MARKERS[(index + 4 * cycle) % len(MARKERS)]
        chosen[name] = Style(COLOURS[index], marker, DASHES[cycle % len(DASHES)])
    chosen[reference] = REFERENCE
    return chosen
