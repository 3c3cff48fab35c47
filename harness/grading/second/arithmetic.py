"""Exact arithmetic with a lid on it: nothing here makes a number of more than a few thousand digits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from harness.grading.second.tokens import Unreadable

MAX_DIGITS = 3000
_MAX_FACTORIAL = 3000
_MAX_POWER_OF_SUM = 40
_MAX_LOOP = 2000
_MAX_DEGREE = 60
_MAX_ROUNDED = 10**20
_MAX_DIGITS_OF_SUM = 300
_MAX_DIGITS_AT_POINTS = 5 * MAX_DIGITS
_MAX_EXPONENT = 10_000
#: Of roots that have too many digits to be exact.
_FLOAT_DIGITS = 60


def power(base: Any, exponent: Any, most: int = MAX_DIGITS) -> Any:
    """``base ** exponent``; exactly, where that has no more than ``most`` digits.

    Raises:
        Unreadable: the result would be too large to write down, or does not exist.
    """
    import sympy

    if exponent.is_number:
        if not exponent.is_Rational and not base.free_symbols and _size(exponent) > 6:
            raise Unreadable("too large")
        if exponent.is_Rational:
            size = abs(float(exponent)) if abs(exponent.p) < 10**12 else math.inf
            if base.is_Rational and base != 0 and size * _digits(base) > most:
                raise Unreadable("too large")
            if _large_root(base, exponent):
                return _finite(sympy.Pow(base.evalf(_FLOAT_DIGITS), exponent))
            if not base.is_Rational and size > (MAX_DIGITS if base.is_Atom else _MAX_POWER_OF_SUM * 10):
                raise Unreadable("too large")
    if base.is_Pow and base.free_symbols and not base.base.is_Symbol and not exponent.is_Integer:
        return power_of_power()(base, exponent)
    return _finite(sympy.Pow(base, exponent))


def power_of_power() -> Any:
    """A power that stays as it is until its letters have numbers: sympy looks for ways to join two of them,
    and multiplies out real parts of whatever stands inside."""
    import sympy

    return sympy.Function("power_of_power")


def powers(expression: Any) -> list[tuple[Any, Any]]:
    """Base and exponent of every power in it."""
    import sympy

    return [tuple(power.args) for power in expression.atoms(sympy.Pow, power_of_power())]


def _large_root(base: Any, exponent: Any) -> bool:
    """Whether sympy would factor a number of thousands of digits to write a root exactly."""
    if exponent.is_Integer or base.free_symbols:
        return False
    if base.is_Rational:
        return bool(exponent.q * _digits(base) > MAX_DIGITS)
    import sympy

    return (
        not base.is_Atom and exponent.q * sum(map(_digits, base.atoms(sympy.Rational))) > _MAX_DIGITS_OF_SUM
    )


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

    if n.is_number and k.is_number and not (n.is_Integer and k.is_Integer and 0 <= k):
        raise Unreadable("binomial coefficient")
    for number in (n, k):
        if number.is_number:
            _bounded(number, _MAX_LOOP)
    return sympy.binomial(n, k)


def rounded(function: Any, value: Any) -> Any:
    """``floor`` or ``ceiling``; of an irrational number by its digits, which sympy would prove."""
    import sympy

    if not value.is_number or value.is_Rational:
        return function(value)
    digits = value.evalf(_FLOAT_DIGITS, maxn=200)
    if not digits.is_Float or abs(digits) > _MAX_ROUNDED:
        raise Unreadable("no real number, or too large")
    near = sympy.Integer(round(digits))
    return near if abs(digits - near) < sympy.Float("1e-30") else function(digits)


def applied(function: Callable[..., Any], arguments: list[Any]) -> Any:
    """``function(*arguments)`` for numbers in place of letters.

    Raises:
        Unreadable: the result would be too large to write down or to add up, or does not exist.
    """
    import sympy

    if function in (sympy.Pow, power_of_power()):
        base, exponent = arguments
        if exponent.is_Rational:
            return power(base, exponent, _MAX_DIGITS_AT_POINTS)
        _bounded(exponent, _MAX_EXPONENT)
        return _finite(sympy.Pow(base, exponent))
    elif function in (sympy.exp, sympy.sinh, sympy.cosh, sympy.tanh, sympy.coth):
        _bounded(arguments[0], _MAX_EXPONENT)
    elif function in (sympy.factorial, sympy.factorial2):
        _bounded(arguments[0], _MAX_FACTORIAL)
    elif function in (sympy.floor, sympy.ceiling):
        return rounded(function, arguments[0])
    elif function is sympy.binomial:
        # For a whole number below, it is a polynomial in what stands above.
        for argument in arguments:
            _bounded(argument, _MAX_LOOP if arguments[0].is_Rational else _MAX_DEGREE)
    return _finite(function(*arguments))


def _bounded(value: Any, most: int) -> None:
    size = abs(value) if value.is_Rational else _size(value)
    if size > most:
        raise Unreadable("too large")


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
