"""Answers that are more than one formula, as typed values: what they hold stays text.

Lists, sets, tuples, regions of the line, times of day, ratios and words are read here, before any computer
algebra, for both graders; what stands inside them is compared by the grader.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from harness.grading import formulas, regions, units, words
from harness.grading.braces import inside, split
from harness.grading.regions import Region

_TIME = re.compile(
    r"(?P<hour>\d{1,2})(?:\s*(?::|\{:\})\s*(?P<minute>[0-5]\d))?\s*(?:\\(?:text|mathrm|textrm|mbox)\s*\{)?\s*"
    r"(?P<half>(?P<letter>[apAP])(?:\.\s*)?[mM]\b\.?)?\s*\}?\s*"
)
_WRAPPED = re.compile(
    r"\\(?:text|mbox|textrm|textnormal|textup|textbf|textit|mathrm|operatorname|hbox)\s*\{([^{}]*)\}"
)
_WORD = re.compile(
    r"[^\W\d_]{3,}(?:[ '-]+[^\W\d_]+)*|[^\W\d_]{2,}(?:[ '-]+[^\W\d_]+)+|no|yes|up|on", re.IGNORECASE
)
_NAMED = re.compile(
    r"(?P<name>\\?[a-zA-Z]+'*(?:_(?:\{\w+\}|\w))?|\(\s*[a-zA-Z](?:\s*,\s*[a-zA-Z])*\s*\))\s*(?:=|\\in(?![a-zA-Z]))\s*(?P<rest>.+)",
    re.DOTALL,
)
#: A matrix of one column is a vector, as a tuple is.
_COLUMN = re.compile(r"\\begin\{([pbB]?matrix|smallmatrix)\}([^&]*)\\end\{\1\}", re.DOTALL)
_MAX_ITEMS = 60


@dataclass(frozen=True)
class Leaf:
    """A formula or number, with its unit behind it."""

    text: str


@dataclass(frozen=True)
class Word:
    text: str


@dataclass(frozen=True)
class Group:
    """``list``: bare, in no order; ``set``: in braces; ``tuple``: in order, in other brackets."""

    kind: Literal["list", "set", "tuple"]
    items: tuple[Value, ...]


@dataclass(frozen=True)
class Ratio:
    terms: tuple[str, ...]


@dataclass(frozen=True)
class Clock:
    """Minutes after twelve o'clock; ``half`` is a, p or "" where it is not said."""

    minutes: int
    half: str


Value = Leaf | Word | Group | Ratio | Clock | Region


def read(text: str, deep: int = 0) -> Value:
    """The value of a cleaned answer; whatever is nothing else is a leaf."""
    bare, unit = units.take(text.strip())
    bare = formulas.bare_minus(bare.strip())
    if unit or deep > 6:
        return Leaf(text.strip())
    return _special(bare) or regions.read(bare) or _listed(bare, deep) or _bracketed(bare, deep) or Leaf(bare)


def _special(text: str) -> Value | None:
    text = re.sub(r"^\\?[a-zA-Z]\s*\\in\s*(?=\\(?:emptyset|varnothing))", "", text)
    if text in (r"\emptyset", r"\varnothing", r"\{\}", r"\{ \}"):
        return Group("set", ())
    time = _TIME.fullmatch(text)
    if time and (time["half"] or (time["minute"] or "").startswith("0")) and int(time["hour"]) < 25:
        return Clock(int(time["hour"]) % 12 * 60 + int(time["minute"] or 0), (time["letter"] or "").lower())
    word = spelled(text)
    if word is not None:
        return Word(word)
    terms = split(re.sub(r"\\colon(?![a-zA-Z])|\{:\}", ":", text), ":")
    if 2 <= len(terms) <= 6 and all(terms) and not re.search(r"[=<>,]|\\[{]", text):
        return Ratio(tuple(terms))
    return None


def spelled(text: str) -> str | None:
    r"""The word or words that ``\text{…}`` or three bare letters are, in lower case; None elsewhere."""
    plain = _WRAPPED.sub(r" \1 ", text)
    plain = words.plain_word(re.sub(r"\s+", " ", plain))
    wrapped = plain != text and "\\" not in plain
    if wrapped and re.fullmatch(r"[^\W\d_][^\d=+*/^<>\\{}()]*", plain) and len(plain) > 1:
        return plain.lower()
    return plain.lower() if _WORD.fullmatch(plain) else None


def _listed(text: str, deep: int) -> Value | None:
    """A bare list, or the two values that a plus-minus sign stands for."""
    rows = split(text, ";")
    if len(rows) > 1:
        return None
    items = [one for item in split(text, ",") for one in formulas.plus_minus(item) if one]
    if len(items) < 2 or len(items) > _MAX_ITEMS:
        return None
    return Group("list", tuple(read(item, deep + 1) for item in _unnamed(items)))


def _unnamed(items: list[str]) -> list[str]:
    """``x = 4, x = 9`` and ``x = 4, 9`` as ``4, 9``; different names stay."""
    named = [_NAMED.fullmatch(item) for item in items]
    names = {match["name"] for match in named if match}
    if len(names) == 1 and named[0]:
        return [match["rest"] if match else item for match, item in zip(named, items, strict=True)]
    return items


def _bracketed(text: str, deep: int) -> Value | None:
    if column := _COLUMN.fullmatch(text):
        rows = [row for row in split(column[2], r"\\") if row]
        return Group("tuple", tuple(read(row, deep + 1) for row in rows)) if len(rows) > 1 else None
    found = inside(text)
    if found is None:
        return None
    opening, content, close = found
    if opening == "{" and "," not in content:
        return read(content, deep + 1)
    items = [one for item in split(content, ",", ";") for one in _either(item, opening)]
    if opening == "(" and len(items) == 1:
        return read(content, deep + 1) if close == ")" and content else None
    if len(items) > _MAX_ITEMS or not all(items) or (opening, close) in (("(", "]"), ("[", ")")):
        return None
    if opening in (r"\{", r"\lbrace", "{"):
        return Group("set", tuple(read(item, deep + 1) for item in _unnamed(items)))
    if len(items) < 2 or opening not in ("(", "[", r"\langle"):
        return None
    expanded = formulas.plus_minus(content) if opening == "(" else [content]
    if len(expanded) == 2:
        return Group("list", tuple(read(f"({one})", deep + 1) for one in expanded))
    return Group("tuple", tuple(read(item, deep + 1) for item in items))


def _either(item: str, opening: str) -> list[str]:
    """In a set a plus-minus sign is two elements; in a tuple it is two tuples."""
    return formulas.plus_minus(item) if opening in (r"\{", r"\lbrace", "{") else [item]
