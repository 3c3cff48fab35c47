"""What needs no simplification between two results of math-verify's parser: plainly equal, or plainly apart.

Most of math-verify's comparison goes into simplifying the difference of two formulas. Where they are the same
sum of products, or have other values at a point, the outcome of that is known before.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import Any

_DIGITS = 30
_MAX_EXPONENT = 200
_MAX_EXPANDED = 6
_MAX_NODES = 150


def equal(a: Any, b: Any) -> bool:
    """Whether two expressions with letters are one sum of products; False says nothing."""
    import sympy

    if not all(isinstance(side, sympy.Expr) and _plain(side) for side in (a, b)):
        return False
    a, b = _evaluated(a), _evaluated(b)
    if not (a.free_symbols or b.free_symbols):
        return False
    if a == b:
        return True
    powers = [power.exp for side in (a, b) for power in side.atoms(sympy.Pow) if power.base.is_Add]
    if not a.free_symbols == b.free_symbols or any(e.is_Integer and abs(e) > _MAX_EXPANDED for e in powers):
        return False
    return bool(sympy.expand(a - b) == 0)


def apart(a: Any, b: Any) -> bool:
    """Whether two expressions surely differ: their values at a point of positive numbers are far apart.

    False says nothing. Positive numbers, because what holds for letters of any kind holds for these, so no
    simplification makes two such expressions equal.
    """
    import sympy

    if not all(isinstance(side, sympy.Expr) and not side.is_Symbol and _plain(side) for side in (a, b)):
        return False
    letters = a.free_symbols | b.free_symbols
    if not letters:
        return False
    at = {letter: _number(letter) for letter in letters}
    left, right = _value(a, at), _value(b, at)
    return left is not None and right is not None and abs(left - right) > 1e-6 * max(abs(left), abs(right))


def _plain(expression: Any) -> bool:
    """Nothing but sums, products, small powers and elementary functions of letters and finite numbers."""
    import sympy

    for count, node in enumerate(sympy.preorder_traversal(expression)):
        if count > _MAX_NODES:
            return False
        if node.is_Pow:
            exponent = node.exp
            if exponent.is_Number and not (exponent.is_finite and abs(exponent) <= _MAX_EXPONENT):
                return False
            if not exponent.is_Number and not (exponent.free_symbols or node.base.free_symbols):
                return False  # a tower of numbers
        elif not isinstance(node, _elementary()) or (node.is_Number and not node.is_finite):
            return False
    return True


@cache
def _elementary() -> tuple[Any, ...]:
    import sympy

    return (
        sympy.Add, sympy.Mul, sympy.Symbol, sympy.Number, sympy.NumberSymbol, type(sympy.I), sympy.exp,
        sympy.log, sympy.sin, sympy.cos, sympy.tan, sympy.cot, sympy.sec, sympy.csc, sympy.asin, sympy.acos,
        sympy.atan, sympy.Abs, sympy.UnevaluatedExpr,
    )  # fmt: skip


def _evaluated(expression: Any) -> Any:
    """The same built again: the parser leaves sums and products in the order in which they were written."""
    if not expression.args:
        return expression
    return expression.func(*[_evaluated(argument) for argument in expression.args])


def _number(letter: Any) -> Any:
    """Between 0.5 and 2.5, the same for a letter wherever it stands."""
    import sympy

    return sympy.Float(0.5 + zlib.crc32(str(letter).encode("utf-8")) / 2**31, _DIGITS)


def _value(expression: Any, at: dict[Any, Any]) -> complex | None:
    """Value to double precision; None where there is none, or none that a double holds well."""
    try:
        value = complex(expression.evalf(_DIGITS, subs=at, maxn=100))
    except (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError):
        return None
    return value if abs(value) < 1e200 and (abs(value) > 1e-200 or value == 0) else None
