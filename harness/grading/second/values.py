"""What the second grader's reader makes of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NumberValue:
    """An expression (sympy); ``decimal``, ``percent``: a decimal point or a percent sign stands in it."""

    expr: Any
    decimal: bool = False
    percent: bool = False


@dataclass(frozen=True)
class Words:
    text: str


@dataclass(frozen=True)
class Sequence:
    """``kind``: ``tuple`` in parentheses, ``list`` bare, ``set`` in braces, ``[]`` in square brackets."""

    kind: str
    items: tuple[Any, ...]


@dataclass(frozen=True)
class IntervalValue:
    low: Any
    high: Any
    low_open: bool
    high_open: bool
    decimal: bool = False


@dataclass(frozen=True)
class Union:
    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Matrix:
    rows: tuple[tuple[NumberValue, ...], ...]


@dataclass(frozen=True)
class Relation:
    """``sides[0] ops[0] sides[1] ops[1] …`` with operators among ``= != < <= > >= in ~``."""

    sides: tuple[Any, ...]
    ops: tuple[str, ...]


Value = NumberValue | Words | Sequence | IntervalValue | Union | Matrix | Relation
