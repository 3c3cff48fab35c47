"""When two values of the second grader are the same answer.

Numbers without letters: exactly where both are rational, else to 25 digits (six where one was written as a
decimal). Expressions with letters: at fixed random points, to 15 digits. Two different analytic expressions
agree at a random point with probability zero, so no simplification is needed, and none can run away.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from harness.grading import numbers
from harness.grading.second.points import canonical_values, values
from harness.grading.second.tokens import Unreadable
from harness.grading.second.values import (
    IntervalValue,
    Matrix,
    NumberValue,
    Relation,
    Sequence,
    Union,
    Value,
    Words,
)

_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
_MAX_ITEMS = 60


def same(gold: Value, pred: Value) -> bool:
    """Whether two values are the same answer; ``gold`` decides whether a left-hand side matters."""
    gold, pred = _aligned(gold, pred)
    if isinstance(gold, NumberValue) and isinstance(pred, NumberValue):
        return same_numbers(gold, pred)
    if isinstance(gold, Words) and isinstance(pred, Words):
        return gold.text == pred.text
    if isinstance(gold, Matrix) and isinstance(pred, Matrix):
        return _all_same(_flat(gold), _flat(pred)) if _shape(gold) == _shape(pred) else False
    if isinstance(gold, Relation) and isinstance(pred, Relation):
        return _same_relations(gold, pred)
    if isinstance(gold, Union) and isinstance(pred, Union):
        return _matched(gold.parts, pred.parts)
    if isinstance(gold, IntervalValue) and isinstance(pred, IntervalValue):
        ends = (gold.low_open, gold.high_open) == (pred.low_open, pred.high_open)
        return ends and _all_same(_ends(gold), _ends(pred))
    if isinstance(gold, Sequence) and isinstance(pred, Sequence):
        return _same_sequences(gold, pred)
    for a, b in ((gold, pred), (pred, gold)):
        if isinstance(a, Sequence) and a.kind == "tuple" and isinstance(b, IntervalValue):
            return len(a.items) == 2 and b.low_open and b.high_open and _all_same(a.items, _ends(b))
        if isinstance(a, Sequence) and a.kind in ("set", "list") and len(a.items) == 1:
            return same(a.items[0], b) if a is gold else same(b, a.items[0])
        if isinstance(a, Sequence) and a.kind in ("tuple", "[]") and isinstance(b, Matrix):
            return len(b.rows[0]) == 1 and _all_same(a.items, _flat(b))
    return False


def same_numbers(a: NumberValue, b: NumberValue) -> bool:
    """Equality of two expressions; a percent sign is a unit, or a factor of one hundredth."""
    if _equal(a.expr, b.expr, a.decimal, b.decimal):
        return True
    if a.percent == b.percent:
        return False
    left, right = (a.expr / 100 if a.percent else a.expr), (b.expr / 100 if b.percent else b.expr)
    return _equal(left, right, a.decimal, b.decimal)


def canonical(value: Value) -> str:
    """A string that is the same for equal answers: exact for rational numbers, else values to 12 digits."""
    if isinstance(value, NumberValue):
        if value.expr.is_Rational:
            huge = max(int(value.expr.p).bit_length(), int(value.expr.q).bit_length()) > 10_000
            return f"{int(value.expr.p):x}/{int(value.expr.q):x}" if huge else str(value.expr)
        # Without a value anywhere its own writing is all that tells it from others.
        return "~" + (",".join(_rounded(v) for v in canonical_values(value.expr)) or _spelled(value.expr))
    if isinstance(value, Words):
        return value.text
    if isinstance(value, Sequence):
        parts = [canonical(item) for item in value.items]
        if value.kind in ("list", "set"):
            return "{" + ", ".join(sorted(set(parts))) + "}"
        return "(" + ", ".join(parts) + ")"
    if isinstance(value, IntervalValue):
        low, high = (canonical(end) for end in _ends(value))
        return f"{'(' if value.low_open else '['}{low}, {high}{')' if value.high_open else ']'}"
    if isinstance(value, Union):
        return " u ".join(sorted(canonical(part) for part in value.parts))
    if isinstance(value, Matrix):
        return "[" + "; ".join(", ".join(canonical(x) for x in row) for row in value.rows) + "]"
    if value.ops == ("=",) and _is_name(value.sides[0]):
        return canonical(value.sides[1])
    return "".join(canonical(s) + o for s, o in zip(value.sides, (*value.ops, ""), strict=True))


def _spelled(expr: Any) -> str:
    try:
        return str(expr)
    except ValueError as error:  # Python writes no integer of thousands of digits
        raise Unreadable("too large") from error


def _rounded(value: Any) -> str:
    import sympy

    real, imaginary = value.as_real_imag()
    return sympy.Float(real, 12).__str__() + (f"+{sympy.Float(imaginary, 12)}i" if imaginary else "")


def _equal(a: Any, b: Any, a_decimal: bool, b_decimal: bool) -> bool:
    import sympy

    if a == b:
        return True
    if a.is_Rational and b.is_Rational:
        return numbers.close(Fraction(a.p, a.q), Fraction(b.p, b.q), a_decimal, b_decimal)
    if a.has(sympy.oo, -sympy.oo) or b.has(sympy.oo, -sympy.oo):
        return False
    left, right = _paired(a, b)
    plain = [decimal and value.is_Rational for value, decimal in ((a, a_decimal), (b, b_decimal))]
    if plain[0] != plain[1] and not (a.free_symbols or b.free_symbols):
        exact, decimal = (right[0], left[0]) if plain[0] else (left[0], right[0])
        return all(
            numbers.agree(Fraction(str(x)), Fraction(str(y)))
            for x, y in zip(exact.as_real_imag(), decimal.as_real_imag(), strict=True)
        )
    tolerance = sympy.Float("1e-15")
    return all(abs(x - y) <= tolerance * max(abs(x), abs(y)) for x, y in zip(left, right, strict=True))


def _paired(a: Any, b: Any) -> tuple[list[Any], list[Any]]:
    """Values of both at the same points.

    Raises:
        Unreadable: there are none, or one has a value where the other has none.
    """
    left, right = values(a, b)
    both = [(x, y) for x, y in zip(left, right, strict=True) if x is not None and y is not None]
    most = max(sum(x is not None for x in side) for side in (left, right))
    if not both or (len(both) < most and a.free_symbols and b.free_symbols):
        raise Unreadable("no value")
    return [x for x, _ in both], [y for _, y in both]


def _aligned(gold: Value, pred: Value) -> tuple[Value, Value]:
    """Drop what the other side does not say: ``x =``, ``x in``; ``a < x < b`` becomes an interval."""
    if isinstance(gold, Relation) and not isinstance(pred, Relation):
        gold = _plain(gold)
    elif isinstance(pred, Relation) and not isinstance(gold, Relation):
        pred = _plain(pred, any_left=True)
    if isinstance(gold, Sequence) and isinstance(pred, Sequence):
        gold, pred = _plain_items(gold, pred), _plain_items(pred, gold)
    if isinstance(gold, Words) != isinstance(pred, Words):
        gold, pred = _as_words(gold), _as_words(pred)
    return gold, pred


def _plain(value: Relation, any_left: bool = False) -> Value:
    if all(op in ("=", "~", "in") for op in value.ops):
        if any_left or _is_name(value.sides[0]) or len(value.sides) > 2:
            approximate = value.ops[-1] == "~" and not _is_name(value.sides[-2])
            return value.sides[-2] if approximate else value.sides[-1]
        return value
    return _interval(value) or value


def _plain_items(value: Sequence, other: Sequence) -> Sequence:
    if any(isinstance(item, Relation) for item in other.items):
        return value
    items = tuple(_plain(item) if isinstance(item, Relation) else item for item in value.items)
    return Sequence(value.kind, items)


def _interval(value: Relation) -> IntervalValue | None:
    """``x <= 3``, ``1 < x < 2`` as intervals."""
    import sympy

    sides, ops = list(value.sides), list(value.ops)
    if not all(isinstance(side, NumberValue) for side in sides) or any(
        op in ("!=", "=", "~", "in") for op in ops
    ):
        return None
    if ops[0] in (">", ">="):
        sides, ops = sides[::-1], [_FLIPPED[op] for op in ops[::-1]]
    if not all(op in ("<", "<=") for op in ops):
        return None
    if len(sides) == 2:
        if sides[0].expr.free_symbols and not sides[1].expr.free_symbols:
            return IntervalValue(-sympy.oo, sides[1].expr, True, ops[0] == "<", sides[1].decimal)
        if sides[1].expr.free_symbols and not sides[0].expr.free_symbols:
            return IntervalValue(sides[0].expr, sympy.oo, ops[0] == "<", True, sides[0].decimal)
        return None
    if len(sides) != 3 or not sides[1].expr.free_symbols:
        return None
    decimal = sides[0].decimal or sides[2].decimal
    return IntervalValue(sides[0].expr, sides[2].expr, ops[0] == "<", ops[1] == "<", decimal)


def _is_name(value: Value) -> bool:
    """A letter, ``f(x)``, a product or quotient of letters such as ``NO/BO``, or a tuple of these."""
    if isinstance(value, Sequence):
        return all(_is_name(item) for item in value.items)
    if not isinstance(value, NumberValue) or not value.expr.free_symbols:
        return False
    factors = value.expr.args if value.expr.is_Mul else (value.expr,)
    return all((f.base if f.is_Pow and f.exp.is_Integer else f).is_Symbol for f in factors)


def _as_words(value: Value) -> Value:
    """Letters that the reader took for a product, as a word: ``east``."""
    if isinstance(value, NumberValue) and value.expr.is_Symbol:
        return Words(str(value.expr).lower())
    return value


def _same_relations(gold: Relation, pred: Relation) -> bool:
    if set(gold.ops) <= {"=", "~"} and set(pred.ops) <= {"=", "~"}:
        if len(gold.sides) > 2 or len(pred.sides) > 2:
            return same(gold.sides[0], pred.sides[0]) and same(gold.sides[-1], pred.sides[-1])
        if same(gold.sides[0], pred.sides[0]) and same(gold.sides[1], pred.sides[1]):
            return True
        if _is_name(gold.sides[0]) and _is_name(pred.sides[0]) and not _shares_letters(gold, pred):
            return same(gold.sides[1], pred.sides[1])
        return _proportional(gold, pred) is not None
    if gold.ops == pred.ops and all(same(a, b) for a, b in zip(gold.sides, pred.sides, strict=True)):
        return True
    turned = tuple(_FLIPPED.get(op, op) for op in pred.ops[::-1])
    if gold.ops == turned and all(same(a, b) for a, b in zip(gold.sides, pred.sides[::-1], strict=True)):
        return True
    if len(gold.ops) == len(pred.ops) == 1 and (factor := _proportional(gold, pred)) is not None:
        return gold.ops[0] == (pred.ops[0] if factor > 0 else _FLIPPED.get(pred.ops[0]))
    return False


def _shares_letters(gold: Relation, pred: Relation) -> bool:
    """Whether the name on the left of one stands anywhere in the other."""
    names = [side.expr for side in (gold.sides[0], pred.sides[0]) if isinstance(side, NumberValue)]
    rest = [s.expr for r in (gold, pred) for s in r.sides[1:] if isinstance(s, NumberValue)]
    return any(name in expr.free_symbols for name in names for expr in rest)


def _proportional(gold: Relation, pred: Relation) -> Any | None:
    """The constant by which ``left - right`` of the two differ, where there is one."""
    sides = [*gold.sides, *pred.sides]
    if len(sides) != 4 or not all(isinstance(side, NumberValue) for side in sides):
        return None
    a, b = (r.sides[0].expr - r.sides[1].expr for r in (gold, pred))
    if a.free_symbols != b.free_symbols:
        return None
    ratios = [x / y for x, y in zip(*_paired(a, b), strict=True) if y != 0]
    if len(ratios) < 2 or any(abs(r - ratios[0]) > abs(ratios[0]) * 1e-15 for r in ratios):
        return None
    return ratios[0] if ratios[0].is_real and ratios[0] != 0 else None


def _same_sequences(gold: Sequence, pred: Sequence) -> bool:
    if len(gold.items) != len(pred.items) or len(gold.items) > _MAX_ITEMS:
        return False
    ordered = {gold.kind, pred.kind} & {"tuple", "[]"}
    if ordered and {gold.kind, pred.kind} & {"list", "set"}:
        # "1,2" for (1,2): the same order, as the brackets were only left out; a set is never a tuple
        return "list" in (gold.kind, pred.kind) and _all_same(gold.items, pred.items)
    return _all_same(gold.items, pred.items) if ordered else _matched(gold.items, pred.items)


def _matched(gold: tuple[Any, ...], pred: tuple[Any, ...]) -> bool:
    """Equality of collections without order."""
    if len(gold) != len(pred):
        return False
    left = list(pred)
    for item in gold:
        found = next((i for i, other in enumerate(left) if same(item, other)), None)
        if found is None:
            return False
        del left[found]
    return True


def _all_same(gold: tuple[Any, ...], pred: tuple[Any, ...]) -> bool:
    return len(gold) == len(pred) and all(same(a, b) for a, b in zip(gold, pred, strict=True))


def _ends(interval: IntervalValue) -> tuple[NumberValue, NumberValue]:
    return NumberValue(interval.low, interval.decimal), NumberValue(interval.high, interval.decimal)


def _flat(matrix: Matrix) -> tuple[NumberValue, ...]:
    return tuple(x for row in matrix.rows for x in row)


def _shape(matrix: Matrix) -> tuple[int, int]:
    return len(matrix.rows), len(matrix.rows[0])
