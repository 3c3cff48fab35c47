"""Reads cleaned LaTeX into values: lists, tuples, sets, intervals, matrices, relations, expressions."""

from __future__ import annotations

from harness.grading.second.expression import OPENING, RELATIONS, ExpressionReader
from harness.grading.second.tokens import Unreadable, tokens
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

_CLOSING = {")", "]", "\\}", "\\rbrace", "}"}


def read(text: str) -> Value:
    """The value of a cleaned answer.

    Raises:
        Unreadable: it is no mathematics that this reader knows, or too large.
    """
    reader = _Reader(tokens(text))
    value = reader.whole()
    if reader.peek().kind != "end":
        raise Unreadable(f"left over: {reader.peek().text}")
    return value


class _Reader(ExpressionReader):
    def whole(self) -> Value:
        """Everything: a bare list, or one thing."""
        groups = [self.listed()]
        while self.take(";"):
            groups.append(self.listed())
        if len(groups) == 1:
            return groups[0]
        if any(isinstance(g, Sequence) and g.kind == "list" for g in groups):
            tuples = [Sequence("tuple", g.items) if isinstance(g, Sequence) else g for g in groups]
            return Sequence("list", tuple(tuples))
        return Sequence("list", tuple(groups))

    def listed(self) -> Value:
        items = self.items(stop={"end", ";"}, double=True)
        return items[0] if len(items) == 1 else Sequence("list", tuple(items))

    def items(self, stop: set[str], double: bool) -> list[Value]:
        items: list[Value] = []
        while True:
            items.extend(self.one_or_two() if double else [self.relation()])
            if not self.take(","):
                return items
            if self.peek().text in stop or self.peek().kind == "end":
                return items

    def one_or_two(self) -> list[Value]:
        """One thing, or the two that a plus-minus sign in it stands for."""
        start, met = self.at, self.plus_minus
        self.plus_minus = False
        found = [self.relation()]
        if self.plus_minus:
            self.at, self.upper = start, False
            found.append(self.relation())
            self.upper = True
        self.plus_minus = met
        return found

    def relation(self) -> Value:
        """One thing, or a chain of relations."""
        sides, ops = [self.operand()], []
        while (token := self.peek()).text in RELATIONS and token.kind in ("symbol", "command"):
            self.at += 1
            ops.append(RELATIONS[token.text])
            sides.append(self.operand())
        return Relation(tuple(sides), tuple(ops)) if ops else sides[0]

    def operand(self) -> Value:
        """A sum, a sequence in brackets, an interval, a union, a matrix or words."""
        start, self.decimal = self.at, False
        first = self.bracketed()
        if first is None:
            self.at, self.decimal = start, False
            first = self.sum_value()
        if self.peek().text not in ("\\cup", "\\cap"):
            return first
        parts = [first]
        while self.take("\\cup"):
            part = self.bracketed()
            if part is None:
                raise Unreadable("union")
            parts.append(part)
        return Union(tuple(parts))

    def bracketed(self) -> Value | None:
        """A tuple, interval, set or matrix that is the whole operand; None when a sum stands here."""
        token = self.peek()
        if token.text.startswith("\\begin{"):
            return self.matrix() if self.peek(1).kind != "end" else None
        if token.text not in OPENING:
            return None
        depth_before, decimals = self.depth, self.decimal
        self.at += 1
        self.deeper()
        try:
            if self.peek().text in _CLOSING:
                raise Unreadable("empty brackets")
            items = [item for group in self.grouped(double=token.text not in "([") for item in group]
        except Unreadable:
            self.depth = depth_before
            return None
        self.depth = depth_before
        close = self.peek()
        if close.text not in _CLOSING:
            return None
        self.at += 1
        follows = self.peek()
        ends = follows.kind == "end" or follows.text in {",", ";", "\\cup", *_CLOSING, *RELATIONS}
        kind = {"(": "tuple", "[": "[]"}.get(token.text, "set")
        if len(items) == 1 and isinstance(items[0], Matrix) and ends:
            return items[0]
        if len(items) == 1 and kind == "set" and token.text == "{":
            return items[0] if ends and not isinstance(items[0], NumberValue) else None
        if (len(items) == 1 and kind != "set") or not ends:
            return None
        self.decimal = decimals or self.decimal
        if token.text in "([" and close.text in ")]" and len(items) == 2 and token.text + close.text != "()":
            low, high = (self.number(item) for item in items)
            decimal = low.decimal or high.decimal
            return IntervalValue(low.expr, high.expr, token.text == "(", close.text == ")", decimal)
        if OPENING[token.text] != close.text:
            raise Unreadable("brackets that do not match")
        return Sequence(kind, tuple(items))

    def grouped(self, double: bool) -> list[list[Value]]:
        groups = [self.items(stop=_CLOSING, double=double)]
        while self.take(";"):
            groups.append(self.items(stop=_CLOSING, double=double))
        return groups

    def matrix(self) -> Value:
        name = self.next().text.removeprefix("\\begin{").removesuffix("}")
        if name not in ("pmatrix", "bmatrix", "matrix", "array", "smallmatrix", "Bmatrix"):
            raise Unreadable(f"environment {name}")
        rows: list[list[NumberValue]] = [[]]
        while not self.peek().text.startswith("\\end{"):
            if self.take("\\\\"):
                rows.append([])
            elif not self.take("&"):
                rows[-1].append(self.number(self.sum_value()))
        self.at += 1
        full = tuple(tuple(row) for row in rows if row)
        if not full or len({len(row) for row in full}) != 1:
            raise Unreadable("matrix")
        return Matrix(full)

    def number(self, value: Value) -> NumberValue:
        if not isinstance(value, NumberValue):
            raise Unreadable("a number was expected")
        return value

    def sum_value(self) -> Value:
        """A sum, or a run of words."""
        words = self.words()
        if words is not None:
            return words
        self.decimal = False
        value = self.sum()
        return NumberValue(value, self.decimal, self.take("%") or self.take("\\%"))

    def words(self) -> Value | None:
        if self.peek().kind != "text":
            return None
        parts = []
        while self.peek().kind == "text":
            parts.append(self.next().text)
        return Words(" ".join(parts).lower())
