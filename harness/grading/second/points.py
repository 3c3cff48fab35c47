"""Values of expressions at fixed random points: plain finite numbers, or none where there is none."""

from __future__ import annotations

import random
from typing import Any

from harness.grading.second import arithmetic
from harness.grading.second.tokens import Unreadable

POINTS = 4
_DIGITS = 40
_MAX_BITS = 100_000
#: Denominators where a letter stands in an exponent: roots of such degrees stay cheap, and exact.
_DEGREES = (31, 37, 41, 43)
#: What sympy raises where a function has no value: (5/2)!! and its like.
_NO_VALUE = (Unreadable, ValueError, TypeError, ArithmeticError, NotImplementedError)


def values(*expressions: Any, points: int = POINTS) -> list[list[Any]]:
    """Values of every expression at the same points, None where it has none; one point without letters."""
    letters = sorted(set().union(*(e.free_symbols for e in expressions)), key=str)
    exponents = set().union(*(_exponents(e) for e in expressions))
    positive = set().union(*(_with_branches(e) for e in expressions)) if exponents else set()
    found = []
    for expression in expressions:
        if not expression.free_symbols:
            found.append([value(expression)] * (points if letters else 1))
            continue
        # Powers and logarithms have one value for positive numbers only.
        powers = _has_powers(expression)
        at: list[dict[Any, Any]] = [{} for _ in range(points)]
        for letter in letters:
            for i in range(points):
                if letter in exponents:
                    at[i][letter] = _exponent(letter, i, signed=letter not in positive)
                else:
                    at[i][letter] = _number(letter, i, signed=not powers)
        found.append([value(expression, point) for point in at])
    return found


def canonical_values(expression: Any) -> list[Any]:
    """Values that tell an expression from others, with as few points as do."""
    [found] = values(expression, points=POINTS if _exponents(expression) else 2)
    return [one for one in found if one is not None]


def value(expression: Any, at: dict[Any, Any] | None = None) -> Any:
    """The value to 40 digits as a plain complex number of sympy; None where there is none."""
    try:
        found = (_placed(expression, at) if at else expression).evalf(_DIGITS, maxn=200)
    except _NO_VALUE:
        return None
    return found if _plain(found) else None


def _plain(value: Any) -> bool:
    """Whether evalf came to an end: real and imaginary part are digits, and of a size to be written."""
    import sympy

    for term in sympy.Add.make_args(value):
        number, rest = term.as_coeff_Mul()
        if not (number.is_Float or number.is_Rational) or rest not in (sympy.S.One, sympy.I):
            return False
        if number.is_Float and abs(number._mpf_[2]) > _MAX_BITS:
            return False
    return True


def _placed(expression: Any, at: dict[Any, Any]) -> Any:
    """The expression with numbers for its letters; every step is bounded, as in reading.

    Raises:
        Unreadable: a power or factorial is too large, or does not exist.
    """
    if not expression.args:
        return at.get(expression, expression)
    arguments = [_placed(argument, at) for argument in expression.args]
    if all(new is old for new, old in zip(arguments, expression.args, strict=True)):
        return expression
    return arithmetic.applied(expression.func, arguments)


def _number(letter: Any, i: int, *, signed: bool) -> Any:
    import sympy

    number = sympy.Rational(random.Random(f"{letter}{i}").randint(3000, 29000), 10007)
    return -number if signed and i % 2 else number


def _exponent(letter: Any, i: int, *, signed: bool) -> Any:
    """No integer, so that ``(-1)^n`` is nothing else; odd and even numerators, both signs."""
    import sympy

    degree = _DEGREES[i % len(_DEGREES)]
    top = random.Random(f"{letter}{i}").randint(degree // 6, degree * 3 // 2 - 1) * 2 + i // 2 % 2
    number = sympy.Rational(top + (top % degree == 0), degree)
    return -number if signed and i % 2 else number


def _exponents(expression: Any) -> set[Any]:
    """Letters in exponents; of e only where it stands in another exponent."""
    return {letter for _, exponent in arithmetic.powers(expression) for letter in exponent.free_symbols}


def _with_branches(expression: Any) -> set[Any]:
    """Letters under roots and logarithms."""
    import sympy

    inner = [base for base, exponent in arithmetic.powers(expression) if not exponent.is_Integer]
    inner += [log.args[0] for log in expression.atoms(sympy.log)]
    return {letter for one in inner for letter in one.free_symbols}


def _has_powers(expression: Any) -> bool:
    import sympy

    roots = any(not exponent.is_Integer for _, exponent in arithmetic.powers(expression))
    return roots or bool(expression.has(sympy.log))
