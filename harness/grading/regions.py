"""Parts of the real line: intervals, unions and inequalities in one letter, with bounds that stay text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.grading import numbers
from harness.grading.braces import inside, pieces, split

OR, AND = r"\lor", r"\land"
_LOW, _HIGH = r"-\infty", r"\infty"
_SIGNS = {
    "<": "<", r"\lt": "<", "<=": "<=", r"\le": "<=", r"\leq": "<=", r"\leqslant": "<=",
    ">": ">", r"\gt": ">", ">=": ">=", r"\ge": ">=", r"\geq": ">=", r"\geqslant": ">=", 
    r"\ne": "!=", r"\neq": "!=",
    "!=": "!=",
}  # fmt: skip
_TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!="}
_NAME = re.compile(r"\\?[a-zA-Z](?:[a-zA-Z]{3,})?(?:_(?:\{\w+\}|\w))?|[a-zA-Z]\([a-zA-Z]\)")
_SIZE = re.compile(r"(?:\||\\lvert|\\vert)\s*([a-zA-Z])\s*(?:\||\\rvert|\\vert)")
_IN = re.compile(r"(?P<name>\\?[a-zA-Z]+(?:_\w)?)\s*\\in(?![a-zA-Z])\s*(?P<rest>.+)", re.DOTALL)
_BUILT = re.compile(
    r"\s*(?P<name>\\?[a-zA-Z]+)\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\\mid(?![a-zA-Z])|\||:|\\colon)\s*(?P<condition>.+)",
    re.DOTALL,
)
_REALS = re.compile(r"\\(?:mathbb|mathbf|Bbb)\s*(?:\{\s*R\s*\}|R(?![a-zA-Z]))|\\R(?:eals)?(?![a-zA-Z])")


@dataclass(frozen=True)
class Piece:
    """An interval; the bounds are texts."""

    low: str
    high: str
    low_open: bool
    high_open: bool


@dataclass(frozen=True)
class Region:
    """A union of intervals. ``name`` is the letter of an inequality, "" where no letter is said."""

    pieces: tuple[Piece, ...]
    name: str = ""


ALL = Region((Piece(_LOW, _HIGH, True, True),))


def read(text: str) -> Region | None:
    """A region; ``(1,2)`` alone, which may be a point, is none."""
    return _union(text, single=False)


def _union(text: str, single: bool) -> Region | None:
    """``single``: one pair of round brackets is an interval, too."""
    text = text.strip()
    if match := _IN.fullmatch(text):
        found = _union(match["rest"], single=True)
        return Region(found.pieces, match["name"]) if found else None
    if _REALS.fullmatch(text):
        return ALL
    parts, _ = pieces(text, {r"\cup", OR})
    if len(parts) > 1:
        read_parts = [one for part in parts if (one := _union(part, single=True))]
        if len(read_parts) != len(parts):
            return None
        names = {one.name for one in read_parts if one.name}
        joined = tuple(piece for one in read_parts for piece in one.pieces)
        return Region(joined, "".join(names)) if len(names) <= 1 else None
    return _without_points(text) or _interval(text, single) or _set_builder(text) or _inequality(text)


def _without_points(text: str) -> Region | None:
    r"""``\mathbb{R}\setminus\{2\}``, ``\mathbb{R}\setminus[2,3]``."""
    parts = split(text, r"\setminus", r"\backslash")
    points = inside(parts[1]) if len(parts) == 2 else None
    if points is None or not _REALS.fullmatch(parts[0]):
        return None
    if points[0] not in (r"\{", r"\lbrace"):
        hole = _interval(parts[1], single=True)
        return _complement(hole.pieces[0]) if hole else None
    return _around(split(points[1], ","), "")


def _complement(hole: Piece) -> Region | None:
    if r"\infty" in hole.low + hole.high:
        return None
    below = Piece(_LOW, hole.low, True, not hole.low_open)
    return Region((below, Piece(hole.high, _HIGH, not hole.high_open, True)))


def _around(points: list[str], name: str) -> Region | None:
    """The line without some points; more than one have to be numbers, to have an order."""
    values = [numbers.number(point) for point in points]
    if len(points) > 1:
        if any(value is None for value in values):
            return None
        points = [p for _, p in sorted(zip([v.value for v in values if v], points, strict=True))]
    bounds = [_LOW, *points, _HIGH]
    return Region(tuple(Piece(a, b, True, True) for a, b in zip(bounds, bounds[1:], strict=False)), name)


def _interval(text: str, single: bool) -> Region | None:
    found = inside(text)
    if found is None or found[0] not in ("(", "[") or found[2] not in (")", "]"):
        return None
    ends = split(found[1], ",", ";")
    if len(ends) != 2 or not all(ends):
        return None
    infinite = any(r"\infty" in end for end in ends)
    if found[0] + found[2] == "()" and not (single or infinite):
        return None
    low, high = (re.sub(r"^\+\s*", "", end) for end in ends)
    return Region((Piece(low, high, found[0] == "(", found[2] == ")"),))


def _set_builder(text: str) -> Region | None:
    found = inside(text)
    if found is None or found[0] not in (r"\{", r"\lbrace"):
        return None
    built = _BUILT.fullmatch(found[1])
    region = _union(built["condition"], single=False) if built else None
    return Region(region.pieces) if region and built and region.name in (built["name"], "") else None


def _inequality(text: str) -> Region | None:
    sides = split(text, AND)
    if len(sides) == 2:
        return _both(_inequality(sides[0]), _inequality(sides[1]))
    parts, marks = pieces(text, set(_SIGNS))
    signs = [_SIGNS[mark] for mark in marks]
    if len(parts) == 3 and "!=" not in signs and _is_name(parts[1]) and not _lettered(parts[0] + parts[2]):
        low, high = parts[0], parts[2]
        if signs[0] in (">", ">=") and signs[1] in (">", ">="):
            low, high, signs = high, low, [_TURNED[signs[1]], _TURNED[signs[0]]]
        if any(sign not in ("<", "<=") for sign in signs):
            return None
        return Region((Piece(low, high, signs[0] == "<", signs[1] == "<"),), parts[1])
    if len(parts) != 2 or not all(parts):
        return None
    left, right = parts
    sign = signs[0]
    if not (_is_name(left) or _SIZE.fullmatch(left)):
        left, right, sign = right, left, _TURNED[sign]
    if "," in right or _lettered(right):
        return None
    if size := _SIZE.fullmatch(left):
        return _size(size[1], sign, right)
    return _half(left, sign, right) if _is_name(left) else None


def _half(name: str, sign: str, bound: str) -> Region | None:
    if sign == "!=":
        return _around([bound], name)
    if sign in ("<", "<="):
        return Region((Piece(_LOW, bound, True, sign == "<"),), name)
    return Region((Piece(bound, _HIGH, sign == ">", True),), name)


def _size(name: str, sign: str, bound: str) -> Region | None:
    """``|x| > c`` is two half-lines for a positive number c."""
    value = numbers.number(bound)
    if value is None or value.value <= 0 or sign == "!=":
        return None
    minus = f"-{bound}"
    if sign in ("<", "<="):
        return Region((Piece(minus, bound, sign == "<", sign == "<"),), name)
    is_open = sign == ">"
    return Region((Piece(_LOW, minus, True, is_open), Piece(bound, _HIGH, is_open, True)), name)


def _both(a: Region | None, b: Region | None) -> Region | None:
    """``x > 2 and x < 5``: one bound below and one above."""
    if a is None or b is None or a.name != b.name or len(a.pieces) != 1 or len(b.pieces) != 1:
        return None
    below, above = (a.pieces[0], b.pieces[0]) if b.pieces[0].low == _LOW else (b.pieces[0], a.pieces[0])
    low, high = numbers.number(below.low), numbers.number(above.high)
    if below.high != _HIGH or above.low != _LOW or low is None or high is None or low.value >= high.value:
        return None
    return Region((Piece(below.low, above.high, below.low_open, above.high_open),), a.name)


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and text not in ("e", "i", r"\pi", r"\infty")


def _lettered(text: str) -> bool:
    """Whether letters stand in a bound, other than e and those of commands."""
    return (
        re.search(r"(?<![a-zA-Z\\])[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", " ", text).replace("e", " ")) is not None
    )
