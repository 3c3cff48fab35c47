"""Runs a tree within limits on steps, depth and size; what goes beyond them is Invalid, as is any error."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from harness.grading.programs.reader import Invalid, ProgramTree, Tree

#: Evaluated parts of a tree, calls inside calls, digits of an integer, and items of a list or text.
STEPS, CALLS, DIGITS, ITEMS = 20_000, 60, 60, 2_000
_LARGEST = 10**DIGITS
Value = int | bool | str | list[Any]


def run(program: ProgramTree, arguments: list[Value]) -> Value:
    """The program's value at ``arguments``.

    Raises:
        Invalid: other parameters, an unknown name, a value of the wrong kind, or a limit.
    """
    return _Run(program).called(arguments)


def value_of(tree: Tree) -> Value:
    """The value of an expression without names. Raises Invalid."""
    return run(ProgramTree((), tree), [])


def written(value: Value) -> str:
    """The value as the language writes it; equal values are written equally."""
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, str):
        return '"' + value + '"' if "'" in value else "'" + value + "'"
    return str(value)


class _Run:
    def __init__(self, program: ProgramTree) -> None:
        self.program, self.steps, self.calls = program, 0, 0

    def called(self, arguments: list[Value]) -> Value:
        if len(arguments) != len(self.program.parameters):
            raise Invalid(f"{len(self.program.parameters)} values are wanted")
        self.calls += 1
        if self.calls > CALLS:
            raise Invalid("too many calls inside each other")
        value = self.at(self.program.body, dict(zip(self.program.parameters, arguments, strict=True)))
        self.calls -= 1
        return value

    def at(self, tree: Tree, names: Mapping[str, Value]) -> Value:
        """The value of ``tree`` where ``names`` have these values."""
        self.steps += 1
        if self.steps > STEPS:
            raise Invalid("too many steps")
        kind = tree[0]
        if kind == "const":
            return tree[1]  # type: ignore[no-any-return]
        if kind == "name":
            if tree[1] not in names:
                raise Invalid(f"unknown name '{tree[1]}'")
            return names[tree[1]]
        made: Value = getattr(self, f"_{kind}")(tree, names)
        return self.small(made)

    def small(self, value: Value) -> Value:
        """``value``, if it is within limits, lists with all that is in them."""
        if isinstance(value, int):
            if not -_LARGEST < value < _LARGEST:
                raise Invalid("too many digits")
            return value
        size = _size(value)
        if size > ITEMS:
            raise Invalid("too many items")
        self.steps += size // 8  # copying is work
        return value

    def _if(self, tree: Tree, names: Mapping[str, Value]) -> Value:
        return self.at(tree[2] if self.truth(tree[1], names) else tree[3], names)

    def truth(self, tree: Tree, names: Mapping[str, Value]) -> bool:
        value = self.at(tree, names)
        if not isinstance(value, bool):
            raise Invalid("a condition is true or false")
        return value

    def _not(self, tree: Tree, names: Mapping[str, Value]) -> Value:
        return not self.truth(tree[1], names)

    def _op(self, tree: Tree, names: Mapping[str, Value]) -> Value:
        _, sign, left, right = tree
        if sign in ("and", "or"):
            first = self.truth(left, names)
            return first if first == (sign == "or") else self.truth(right, names)
        return _operate(sign, self.at(left, names), self.at(right, names))

    def _list(self, tree: Tree, names: Mapping[str, Value]) -> Value:
        return [self.at(item, names) for item in tree[1]]

    def _for(self, tree: Tree, names: Mapping[str, Value]) -> Value:
        _, item, name, source, condition = tree
        made: list[Any] = []
        for value in _listed(self.at(source, names)):
            inner = {**names, name: value}
            if condition is None or self.truth(condition, inner):
                made.append(self.at(item, inner))
        return made

    def _index(self, tree: Tree, names: Mapping[str, Value]) -> Value:
        whole, at = _listed(self.at(tree[1], names)), _number(self.at(tree[2], names))
        if not -len(whole) <= at < len(whole):
            raise Invalid("no item there")
        return whole[at]  # type: ignore[no-any-return]

    def _slice(self, tree: Tree, names: Mapping[str, Value]) -> Value:
        whole = _listed(self.at(tree[1], names))
        ends = [None if part is None else _number(self.at(part, names)) for part in tree[2:]]
        return whole[slice(*ends)]

    def _call(self, tree: Tree, names: Mapping[str, Value]) -> Value:
        _, name, parts = tree
        arguments = [self.at(part, names) for part in parts]
        if name == "f" and self.program.parameters:
            return self.called(arguments)
        if name not in FUNCTIONS:
            raise Invalid(f"unknown function '{name}'")
        count, function = FUNCTIONS[name]
        if len(arguments) != count:
            raise Invalid(f"{name} takes {count} values")
        return function(*arguments)


def _size(value: Value) -> int:
    """Items and characters in a value, whose items are within limits; more than ITEMS is not counted out."""
    if isinstance(value, int):
        return 0
    if isinstance(value, str) or len(value) > ITEMS:
        return len(value)
    total = len(value)
    for item in value:
        if total > ITEMS:
            break
        total += _size(item)
    return total


def _operate(sign: str, a: Value, b: Value) -> Value:
    if sign in ("==", "!="):
        return (written(a) == written(b)) == (sign == "==")
    if sign in ("<", "<=", ">", ">="):
        if not (type(a) is type(b) and isinstance(a, int | str)):
            raise Invalid("only numbers and texts have an order")
        return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[sign]  # type: ignore[operator]
    if sign == "+" and type(a) is type(b) and isinstance(a, str | list):
        return a + b  # type: ignore[operator]
    if sign == "*" and isinstance(a, str | list):
        if len(a) * max(_number(b), 0) > ITEMS:
            raise Invalid("too many items")
        return a * _number(b)
    x, y = _number(a), _number(b)
    if sign in ("/", "//", "%"):
        if not y:
            raise Invalid("division by 0")
        return x % y if sign == "%" else x // y
    return x + y if sign == "+" else x - y if sign == "-" else x * y


def _number(value: Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Invalid("a number is wanted")
    return value


def _listed(value: Value) -> Any:
    if not isinstance(value, str | list):
        raise Invalid("a list or a text is wanted")
    return value


def _numbers(value: Value) -> list[int]:
    return [_number(item) for item in _listed(value)]


def _some(value: Value) -> list[int]:
    found = _numbers(value)
    if not found:
        raise Invalid("an empty list has none")
    return found


def _range(first: Value, last: Value) -> Value:
    a, b = _number(first), _number(last)
    if b - a > ITEMS:
        raise Invalid("too many items")
    return list(range(a, b))


def _number_read(value: Value) -> Value:
    if not (isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,60}", value)):
        raise Invalid("no number")
    return int(value)


def _sorted(value: Value) -> Value:
    items = _listed(value)
    if isinstance(items, str):
        return "".join(sorted(items))
    if not all(type(item) is type(items[0]) and isinstance(item, int | str) for item in items):
        raise Invalid("only numbers and texts have an order")
    return sorted(items)


#: Name -> number of values, and what it gives.
FUNCTIONS: dict[str, tuple[int, Callable[..., Value]]] = {
    "abs": (1, lambda a: abs(_number(a))),
    "int": (1, _number_read),
    "len": (1, lambda a: len(_listed(a))),
    "max": (1, lambda a: max(_some(a))),
    "min": (1, lambda a: min(_some(a))),
    "range": (2, _range),
    "reverse": (1, lambda a: _listed(a)[::-1]),
    "sort": (1, _sorted),
    "str": (1, lambda a: a if isinstance(a, str) else written(a)),
    "sum": (1, lambda a: sum(_numbers(a))),
}
