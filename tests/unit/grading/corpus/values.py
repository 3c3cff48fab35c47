"""What an answer means, and when two meanings are the same: the corpus's own judge, on exact values.

Nothing here looks at a grader. Numbers and expressions are compared at fixed points to 30 digits.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import sympy as sp

#: Where expressions with letters are compared; no letter gets the same number twice.
POINTS = (sp.Rational(7, 5), sp.Rational(23, 11), sp.Rational(37, 13))


@dataclass(frozen=True)
class Number:
    """A number or an expression in letters; ``unit`` is empty where none is named."""

    value: Any
    unit: str = ""


@dataclass(frozen=True)
class Rounded:
    """A decimal that stands for a number, to as many significant digits as it has (six at least)."""

    digits: str


@dataclass(frozen=True)
class Series:
    """Several answers: ``(`` where order counts, ``{`` a set, ``,`` a list with repetitions."""

    bracket: str
    items: tuple[Any, ...]


@dataclass(frozen=True)
class Region:
    """A part of the real line."""

    points: Any


@dataclass(frozen=True)
class Relation:
    """``difference = 0``; a constant factor changes nothing."""

    difference: Any


@dataclass(frozen=True)
class Grid:
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Word:
    text: str


@dataclass(frozen=True)
class Based:
    digits: str
    base: int


@dataclass(frozen=True)
class Ratio:
    terms: tuple[Any, ...]


@dataclass(frozen=True)
class Clock:
    """Minutes after midnight."""

    minutes: int


def same(gold: Any, answer: Any) -> bool:
    """Whether ``answer`` means what ``gold`` means. Values of different types differ, but for units."""
    if isinstance(answer, Rounded):
        return isinstance(gold, Number) and _rounds_to(gold.value, answer.digits)
    if type(gold) is not type(answer):
        return False
    if isinstance(gold, Number):
        return _same_number(gold, answer)
    if isinstance(gold, Series):
        return _same_series(gold, answer)
    if isinstance(gold, Region):
        return bool(sp.simplify(gold.points.symmetric_difference(answer.points)) == sp.S.EmptySet)
    if isinstance(gold, Relation):
        quotient = [_at(gold.difference, n) / _at(answer.difference, n) for n in range(3)]
        return all(abs(q - quotient[0]) < 1e-20 for q in quotient)
    if isinstance(gold, Grid):
        return [len(r) for r in gold.rows] == [len(r) for r in answer.rows] and all(
            equal(a, b)
            for x, y in zip(gold.rows, answer.rows, strict=True)
            for a, b in zip(x, y, strict=True)
        )
    if isinstance(gold, Ratio):
        return len(gold.terms) == len(answer.terms) and all(
            equal(a * answer.terms[0], b * gold.terms[0])
            for a, b in zip(gold.terms, answer.terms, strict=True)
        )
    if isinstance(gold, Word):
        return gold.text.casefold() == answer.text.casefold()
    return bool(gold == answer)


def equal(a: Any, b: Any) -> bool:
    """Equal numbers or expressions, to 30 digits at the fixed points."""
    difference = sp.sympify(a) - sp.sympify(b)
    return difference == 0 or all(abs(_at(difference, n)) < sp.Float("1e-25") for n in range(3))


def _at(expression: Any, turn: int) -> Any:
    letters = sorted(sp.sympify(expression).free_symbols, key=str)
    numbers = {x: POINTS[(i + turn) % 3] + i for i, x in enumerate(letters)}
    return sp.N(sp.sympify(expression).subs(numbers), 40)


def _same_number(gold: Number, answer: Number) -> bool:
    """A unit may be left out but not changed; a percent sign may be left out or be a factor."""
    if "%" in (gold.unit, answer.unit) and gold.unit != answer.unit:
        return any(equal(gold.value * factor, answer.value) for factor in (1, sp.Rational(1, 100), 100))
    units = {gold.unit, answer.unit} - {""}
    return len(units) < 2 and equal(gold.value, answer.value)


def _same_series(gold: Series, answer: Series) -> bool:
    a, b = gold.items, answer.items
    if "(" in (gold.bracket, answer.bracket):
        ordered = gold.bracket == answer.bracket and len(a) == len(b)
        return ordered and all(same(x, y) for x, y in zip(a, b, strict=True))
    if "{" in (gold.bracket, answer.bracket):
        return all(any(same(x, y) for y in b) for x in a) and all(any(same(x, y) for x in a) for y in b)
    return len(a) == len(b) and Counter(_place(x, a) for x in a) == Counter(_place(y, a) for y in b)


def _place(item: Any, among: tuple[Any, ...]) -> int:
    """The first item of ``among`` that means the same; -1 for none."""
    return next((i for i, other in enumerate(among) if same(other, item)), -1)


def _rounds_to(value: Any, digits: str) -> bool:
    significant = len(digits.replace(".", "").lstrip("-0"))
    gap = abs(sp.N(value, 40) - sp.Rational(digits))
    last = sp.Rational(1, 10 ** len(digits.partition(".")[2]))
    return significant >= 6 and bool(gap <= last / 2)
