"""Splits cleaned LaTeX into tokens for the second grader's reader."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "letter", "command", "symbol", "text", "end"]

_PATTERN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<text>\\(?:text|mbox|textrm|textnormal|textbf|textit|mathrm|operatorname|mathbf|hbox|mathit)\s*"
    r"\{(?P<words>[^{}]*)\})"
    r"|(?P<begin>\\(?:begin|end)\s*\{[a-zA-Z]+\*?\}(?:\{[lcr|]*\})?)"
    r"|(?P<number>\d+(?:\.\d*)?(?:[eE][-+]?\d{1,4}(?![\d.a-zA-Z]))?|\.\d+)"
    r"|(?P<command>\\[a-zA-Z]+|\\[{}|])"
    r"|(?P<row>\\\\)"
    r"|(?P<letter>[a-zA-Z])"
    r"|(?P<symbol><=|>=|\*\*|[-+*/^_!=<>(){}\[\]|,;:.'&%])"
)

MAX_TOKENS = 600


class Unreadable(Exception):
    """The text is no mathematics that this reader knows."""


@dataclass(frozen=True)
class Token:
    kind: Kind
    text: str


def tokens(text: str) -> list[Token]:
    """All tokens and an end mark.

    Raises:
        Unreadable: a character that belongs to no mathematics, or more than ``MAX_TOKENS`` tokens.
    """
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _PATTERN.match(text, at)
        if match is None:
            raise Unreadable(f"character {text[at]!r}")
        at = match.end()
        token = _token(match)
        if token is not None:
            found.append(token)
        if len(found) > MAX_TOKENS:
            raise Unreadable("too long")
    return [*found, Token("end", "")]


def _token(match: re.Match[str]) -> Token | None:
    if match["space"]:
        return None
    if match["words"] is not None:
        words = match["words"].strip()
        if len(words) == 1 and words.isalpha():
            return Token("letter", words)
        if words in ("arcsin", "arccos", "arctan", "sech", "csch", "sgn", "lcm", "gcd"):
            return Token("command", "\\" + words)
        return Token("text", words) if words else None
    if match["begin"]:
        return Token("command", re.sub(r"\s|\}\{[lcr|]*", "", match["begin"]).removesuffix("}") + "}")
    if match["row"]:
        return Token("command", "\\\\")
    if match["number"]:
        return Token("number", match["number"])
    if match["command"]:
        return Token("command", match["command"])
    if match["letter"]:
        return Token("letter", match["letter"])
    return Token("symbol", match["symbol"])
