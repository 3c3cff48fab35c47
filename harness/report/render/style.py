"""One look per method everywhere, from its name alone, safe for colour-blind readers."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

# (on white, on dark): the same nine hues twice. Under simulated protanopia, deuteranopia and tritanopia any
# two stay apart and every one stands out from its background; the test measures both.
COLOURS = (
    ("#3B3FB6", "#8C90FF"),
    ("#DB485E", "#FF7485"),
    ("#007A4A", "#31A346"),
    ("#B75BBE", "#D17BCD"),
    ("#1F98F7", "#67C1FF"),
    ("#929A21", "#E3E36E"),
    ("#955400", "#F89F35"),
    ("#7A2A1F", "#AF7995"),
    ("#31A597", "#66E5D3"),
)
#: Controls compete with nobody: greys, told apart by line and marker.
GREYS = (("#6E7781", "#8B949E"), ("#9AA3AD", "#B7C0CA"))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
#: On and off lengths in line widths; empty is a solid line.
DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (5, 1.6),
    (1.2, 1.2),
    (5, 1.5, 1.2, 1.5),
    (9, 1.6, 3, 1.6),
)
_LINES = len(DASHES) * len(MARKERS)
# Chosen so that of 95 entries' names only two pairs meet, and the colours of the first leaderboard are spread
# evenly. Another value changes every picture.
_SALT = 12578


@dataclass(frozen=True)
class Style:
    """How matplotlib and the page draw one row; ``dark`` is the colour on a dark page."""

    colour: str
    dark: str
    marker: str
    dashes: tuple[float, ...]
    width: float = 1.8

    @property
    def line(self) -> str | tuple[int, tuple[float, ...]]:
        """As matplotlib's ``linestyle``."""
        return (0, self.dashes) if self.dashes else "-"


BASE = Style("#555555", "#A8B0B8", "*", (2, 2), 1.6)
REFERENCE = Style("#000000", "#FFFFFF", "o", (), 2.4)


def styles(names: Iterable[str], reference: str, controls: Collection[str] = ()) -> dict[str, Style]:
    """A distinct look per name; the reference is always black, or white on a dark page.

    The colour comes from the part before ``@``, so that readings of one method share it; line and marker
    come from the whole name. Only when a look is taken by an earlier name of the alphabet, the next line and
    marker of that colour are used: other rows in a report practically never change a row's look.
    """
    chosen: dict[str, Style] = {}
    taken: set[tuple[int, bool, int]] = set()
    for name in sorted(set(names) - {reference}):
        grey = name in controls
        tones = GREYS if grey else COLOURS
        tone = _number(f"{_SALT}:{name.split('@')[0]}") % len(tones)
        wish = _number(f"{_SALT}/{name}") % _LINES
        look = next(
            (
                (wish + step) % _LINES
                for step in range(_LINES)
                if (tone, grey, (wish + step) % _LINES) not in taken
            ),
            wish,
        )
        taken.add((tone, grey, look))
        dashes, marker = DASHES[look // len(MARKERS)], MARKERS[look % len(MARKERS)]
        chosen[name] = Style(*tones[tone], marker, dashes, 1.5 if grey else 1.8)
    chosen[reference] = REFERENCE
    return chosen


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
