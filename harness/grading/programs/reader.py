"""From the text of a program or a value to a tree, by recursive descent within limits.

    program     [ "f(" names ")" "=" ] expression
    expression  "if" e "then" e "else" e | e "or" e | e "and" e | "not" e | e (== != < <= > >=) e
                | e (+ -) e | e (* / // %) e | "-" e | e "[" e "]" | e "[" [e] ":" [e] "]"
                | name "(" e, … ")" | name | integer | 'text' | "[" e, … "]"
                | "[" e "for" name "in" e [ "if" e ] "]" | "(" e ")"

``/`` is floor division, as ``//`` is. A program without a head has the parameter names it is read with.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: Characters of a text, parts of its tree, and how deep that may be.
LONGEST, MOST_NODES, DEEPEST = 2000, 400, 30
_TOKEN = re.compile(
    r"\s*(?:(\d{1,40})|([A-Za-z_][A-Za-z_0-9]{0,20})|('[^'\n]*'|\"[^\"\n]*\")|(//|==|!=|<=|>=|[-+*/%<>=(),:\[\]]))"
)
_WORDS = frozenset({"if", "then", "else", "or", "and", "not", "for", "in", "True", "False"})
#: Binary operators, loosest first; a level is taken from left to right.
_LEVELS = (("or",), ("and",), ("==", "!=", "<", "<=", ">", ">="), ("+", "-"), ("*", "/", "//", "%"))
_NOT = 2  # "not" stands before comparisons
#: ("kind", parts…): constants, names, operators, calls.
Tree = tuple[Any, ...]


class Invalid(ValueError):
    """A text that is no program or value, or one that ran into a limit."""


@dataclass(frozen=True)
class ProgramTree:
    """Parameters and body."""

    parameters: tuple[str, ...]
    body: Tree


def read_program(text: str, parameters: Sequence[str] = ("x",)) -> ProgramTree:
    """
    Args:
        parameters: names that a text without a head is a function of.

    Raises:
        Invalid: it is none.
    """
    head = re.match(r"\s*f\s*\(([A-Za-z_0-9,\s]*)\)\s*=(?!=)", text)
    if head is None:
        return ProgramTree(tuple(parameters), read_expression(text))
    names = tuple(name.strip() for name in head[1].split(","))
    good = all(re.fullmatch(r"[A-Za-z_][A-Za-z_0-9]{0,20}", n) and n not in _WORDS for n in names)
    if not good or len(set(names)) < len(names) or len(names) > 4:
        raise Invalid("a head that names no parameters")
    return ProgramTree(names, read_expression(text[head.end() :]))


def read_expression(text: str) -> Tree:
    """Raises Invalid where ``text`` is no expression, or too large."""
    if len(text) > LONGEST:
        raise Invalid("too long")
    reader = _Reader(_tokens(text))
    tree = reader.level(0)
    if reader.at < len(reader.tokens):
        raise Invalid(f"'{reader.tokens[reader.at]}' is left over")
    return tree


def _tokens(text: str) -> list[str]:
    found, at, text = [], 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Invalid(f"no word of the language: {text[at : at + 8]!r}")
        found.append(match[0].strip())
        at = match.end()
    return found


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at, self.nodes, self.depth = tokens, 0, 0, 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token = self.peek()
        if not token or (wanted and token != wanted):
            raise Invalid(f"'{wanted or 'more'}' is missing")
        self.at += 1
        return token

    def node(self, *parts: Any) -> Tree:
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise Invalid("too many parts")
        return parts

    def level(self, number: int) -> Tree:
        """An expression whose operators bind at least as tightly as those of this level."""
        if number == len(_LEVELS):
            return self.unary()
        if number == 0 and self.peek() == "if":
            return self.choice()
        if number == _NOT and self.peek() == "not":
            self.take()
            return self.node("not", self.deeper(_NOT))
        tree = self.level(number + 1)
        while self.peek() in _LEVELS[number]:
            tree = self.node("op", self.take(), tree, self.level(number + 1))
        return tree

    def deeper(self, number: int = 0) -> Tree:
        """An expression inside another one."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise Invalid("too deep")
        tree = self.level(number)
        self.depth -= 1
        return tree

    def choice(self) -> Tree:
        self.take("if")
        condition = self.deeper()
        self.take("then")
        first = self.deeper()
        self.take("else")
        return self.node("if", condition, first, self.deeper())

    def unary(self) -> Tree:
        if self.peek() == "-":
            self.take()
            self.depth += 1
            if self.depth > DEEPEST:
                raise Invalid("too deep")
            tree = self.node("op", "-", ("const", 0), self.unary())
            self.depth -= 1
            return tree
        tree = self.atom()
        while self.peek() == "[":
            tree = self.index(tree)
        return tree

    def index(self, tree: Tree) -> Tree:
        self.take("[")
        first = None if self.peek() == ":" else self.deeper()
        if self.peek() != ":":
            self.take("]")
            return self.node("index", tree, first)
        self.take(":")
        last = None if self.peek() == "]" else self.deeper()
        self.take("]")
        return self.node("slice", tree, first, last)

    def atom(self) -> Tree:
        token = self.take()
        if token.isdigit():
            return self.node("const", int(token))
        if token[0] in "'\"":
            return self.node("const", token[1:-1])
        if token in ("True", "False"):
            return self.node("const", token == "True")
        if token == "(":
            tree = self.deeper()
            self.take(")")
            return tree
        if token == "[":
            return self.list_of()
        if not token.isidentifier() or token in _WORDS:
            raise Invalid(f"'{token}' is out of place")
        if self.peek() != "(":
            return self.node("name", token)
        self.take("(")
        return self.node("call", token, self.several(")"))

    def list_of(self) -> Tree:
        if self.peek() == "]":
            self.take()
            return self.node("list", ())
        first = self.deeper()
        if self.peek() != "for":
            rest = (self.take(","), self.several("]"))[1] if self.peek() == "," else self.several("]", True)
            return self.node("list", (first, *rest))
        self.take("for")
        name = self.take()
        if not name.isidentifier() or name in _WORDS:
            raise Invalid(f"'{name}' is no name")
        self.take("in")
        source, condition = self.deeper(), None
        if self.peek() == "if":
            self.take()
            condition = self.deeper()
        self.take("]")
        return self.node("for", first, name, source, condition)

    def several(self, end: str, none: bool = False) -> tuple[Tree, ...]:
        """Expressions between commas up to ``end``, which is taken."""
        found: list[Tree] = []
        while self.peek() != end:
            if none:
                raise Invalid(f"'{end}' is missing")
            found.append(self.deeper())
            if self.peek() != end:
                self.take(",")
        self.take(end)
        return tuple(found)
