"""Exact values of answers that are plain numbers, and when two of them are the same."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import floor, log10

#: A decimal stands for a fraction, a root or a multiple of pi when both agree to so many significant digits.
DIGITS = 6
_MAX_DIGITS = 400
_MAX_EXPONENT = 3500

_DECIMAL = r"\d+(?:\.\d*)?|\.\d+"
_SCIENTIFIC = re.compile(
    rf"(?P<sign>[-+]?)\s*(?:(?P<mantissa>{_DECIMAL})\s*(?:\\times|\\cdot|\*|x)\s*)?10\s*\^\s*"
    rf"(?:\{{\s*(?P<braced>[-+]?\s*\d{{1,5}})\s*\}}|(?P<bare>[-+]?\d{{1,5}}))"
)
_E_NOTATION = re.compile(rf"(?P<sign>[-+]?)\s*(?P<mantissa>{_DECIMAL})[eE](?P<exponent>[-+]?\d{{1,5}})")
_PLAIN = re.compile(rf"(?P<sign>[-+]?)\s*(?P<digits>{_DECIMAL})\s*(?P<percent>%?)")
_FRACTION = re.compile(
    r"(?P<sign>[-+]?)\s*(?:(?P<whole>\d+)\s*(?=\\frac))?(?:\\frac\s*\{\s*(?P<top>[-+]?\s*\d+)\s*\}\s*"
    r"\{\s*(?P<bottom>[-+]?\s*\d+)\s*\}|(?P<above>\d+)\s*/\s*(?P<below>\d+))\s*(?P<percent>%?)"
)


@dataclass(frozen=True)
class Number:
    """An exact value; ``decimal`` when it was written with a decimal point or a power of ten."""

    value: Fraction
    decimal: bool = False
    percent: bool = False


def number(text: str) -> Number | None:
    """Value of a cleaned answer that is one plain number, fraction or number in scientific notation."""
    text = text.strip()
    if not text or len(text) > _MAX_DIGITS:
        return None
    while len(text) > 2 and text[0] in "({" and text[-1] == {"(": ")", "{": "}"}[text[0]]:
        text = text[1:-1].strip()
    if match := _PLAIN.fullmatch(text):
        value = _signed(match, Fraction(match["digits"]))
        return Number(value, "." in match["digits"], bool(match["percent"]))
    if match := _E_NOTATION.fullmatch(text):
        return _powered(match, match["mantissa"], match["exponent"])
    if match := _SCIENTIFIC.fullmatch(text):
        return _powered(match, match["mantissa"] or "1", (match["braced"] or match["bare"]).replace(" ", ""))
    if match := _FRACTION.fullmatch(text):
        top, bottom = (match["top"] or match["above"]), (match["bottom"] or match["below"])
        if not int(bottom.replace(" ", "")):
            return None
        value = Fraction(int(top.replace(" ", "")), int(bottom.replace(" ", "")))
        return Number(_signed(match, value + int(match["whole"] or 0)), percent=bool(match["percent"]))
    return None


def same(a: Number, b: Number) -> bool:
    """Whether two numbers are the same answer.

    Exact values must be equal; so must decimals and integers (to one part in 10**9). A decimal stands for a
    fraction when they agree to six significant digits. A percent sign is a unit, or a factor of one
    hundredth.
    """
    if close(a.value, b.value, a.decimal, b.decimal):
        return True
    if a.percent == b.percent:
        return False
    left, right = (a.value / 100 if a.percent else a.value), (b.value / 100 if b.percent else b.value)
    return close(left, right, a.decimal, b.decimal)


def close(a: Fraction, b: Fraction, a_decimal: bool, b_decimal: bool) -> bool:
    """Equality of two values of which either may be a decimal approximation."""
    if a == b:
        return True
    if not (a_decimal or b_decimal):
        return False
    exact, decimal = (b, a) if a_decimal else (a, b)
    if a_decimal != b_decimal and exact.denominator != 1:
        return agree(exact, decimal)
    return abs(a - b) <= Fraction(1, 10**9) * max(abs(a), abs(b))


def agree(exact: Fraction, decimal: Fraction) -> bool:
    """Whether six digits are the same, both rounded or both cut off: 2.23607 or 2.23606 for √5."""
    if exact == 0 or decimal == 0:
        return exact == decimal
    if (exact < 0) != (decimal < 0):
        return False
    exact, decimal = abs(exact), abs(decimal)
    ratio = exact / decimal
    if not Fraction(9, 10) < ratio < Fraction(10, 9):
        return False
    unit = Fraction(10) ** (_magnitude(exact) - DIGITS + 1)
    ours, theirs = exact / unit, decimal / unit
    return floor(ours) == floor(theirs) or floor(ours + Fraction(1, 2)) == floor(theirs + Fraction(1, 2))


def _magnitude(value: Fraction) -> int:
    """The power of ten of the first digit."""
    # From bits, not from digits: Python writes no integer of more than some thousands of them.
    guess = floor((value.numerator.bit_length() - value.denominator.bit_length() + 1) * log10(2))
    return guess if value >= Fraction(10) ** guess else guess - 1


def canonical(n: Number) -> str:
    """The same string for the same value: ``1/2`` for ``0.5`` and ``\\frac{2}{4}``."""
    return str(n.value)


def _signed(match: re.Match[str], value: Fraction) -> Fraction:
    return -value if match["sign"] == "-" else value


def _powered(match: re.Match[str], mantissa: str, exponent: str) -> Number | None:
    if abs(int(exponent)) > _MAX_EXPONENT:
        return None
    value = _signed(match, Fraction(mantissa) * Fraction(10) ** int(exponent))
    exact = match["mantissa"] is None or ("." not in mantissa and int(exponent) >= 0)
    return Number(value, decimal=not exact)
