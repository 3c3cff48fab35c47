"""Exact arithmetic with a lid on it: nothing here makes a number of more than a few thousand digits."""

from __future__ import annotations

import math
from typing import Any

from harness.grading.second.tokens import Unreadable

MAX_DIGITS = 3000
_MAX_FACTORIAL = 3000
_MAX_POWER_OF_SUM = 40


def power(base: Any, exponent: Any) -> Any:
    """``base ** exponent``.

    Raises:
        Unreadable: the result would be too large to write down, or does not exist.
    """
    import sympy

    if exponent.is_number:
        if not exponent.is_Rational and not base.free_symbols and _size(exponent) > 6:
            raise Unreadable("too large")
        if exponent.is_Rational:
            size = abs(float(exponent)) if abs(exponent.p) < 10**12 else math.inf
            if base.is_Rational and base != 0 and size * _digits(base) > MAX_DIGITS:
                raise Unreadable("too large")
            if not base.is_Rational and size > (MAX_DIGITS if base.is_Atom else _MAX_POWER_OF_SUM * 10):
                raise Unreadable("too large")
    return _finite(sympy.Pow(base, exponent))


def divide(top: Any, bottom: Any) -> Any:
    """``top / bottom``.

    Raises:
        Unreadable: division by zero.
    """
    if bottom == 0:
        raise Unreadable("division by zero")
    return _finite(top / bottom)


def factorial(n: Any, times: int = 1) -> Any:
    import sympy

    if times > 2 or (n.is_number and not (n.is_Integer and 0 <= n <= _MAX_FACTORIAL)):
        raise Unreadable("factorial")
    return sympy.factorial(n) if times == 1 else sympy.factorial2(n)


def binomial(n: Any, k: Any) -> Any:
    import sympy

    if n.is_number and k.is_number and not (n.is_Integer and k.is_Integer and 0 <= k and abs(n) <= 2000):
        raise Unreadable("binomial coefficient")
    return sympy.binomial(n, k)


def _finite(value: Any) -> Any:
    import sympy

    if value.has(sympy.nan, sympy.zoo):
        raise Unreadable("no value")
    return value


def _digits(value: Any) -> float:
    return max(1.0, math.log10(max(2, abs(value.p))), math.log10(max(1, value.q)))


def _size(value: Any) -> float:
    try:
        return abs(complex(value.evalf(5)))
    except (TypeError, OverflowError) as error:
        raise Unreadable("no value") from error
