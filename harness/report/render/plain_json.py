"""JSON for people: sorted keys, a line for every short list or object, numbers as they are.

Rows of a table are objects of the same keys, so what stands at one place in all of them is made at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain, islice
from operator import itemgetter
from typing import Any

import msgspec

from harness.util.batches import kind_by_kind
from harness.util.collector import collector_paused

#: Characters of a line; lists of numbers may be longer.
_WIDTH = 110
_NUMBERS = {int, float, bool, type(None)}
_FINITE = {int, float}
_SCALARS = {str, *_NUMBERS}
_LISTS = {list, tuple}
_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, allow_nan=False)
#: For many values in one call, as starting it takes longer than a short value. No value has a line break.
_EACH = json.JSONEncoder(ensure_ascii=False, sort_keys=True, allow_nan=False, separators=("\n", ": "))


@collector_paused()
def json_text(data: Mapping[str, Any]) -> str:
    """JSON with sorted keys that a person can read in a diff: a line for every short list or object.

    Raises:
        ValueError: a number that JSON has not, as NaN.
    """
    return _texts([data], "")[0] + "\n"


def _texts(values: Sequence[Any], indent: str) -> list[str]:
    """Each value as text, those of one kind together."""
    types = set(map(type, values))
    if types <= _SCALARS:
        return _scalars(values, types)
    if types <= _LISTS and set(map(type, chain.from_iterable(values))) <= _NUMBERS:
        return _numbers(values)
    return kind_by_kind(values, _kind, lambda kind, own: _alike(kind, own, indent))


def _kind(value: Any) -> Any:
    """Equal for values that are written together: an object's keys, or a type."""
    if isinstance(value, dict):
        return tuple(value)
    if isinstance(value, (list, tuple)):
        return "numbers" if set(map(type, value)) <= _NUMBERS else "list"
    return "plain"


def _alike(kind: Any, values: Sequence[Any], indent: str) -> list[str]:
    if kind == "plain":
        return _scalars(values, set(map(type, values)))
    if kind == "numbers":
        return _numbers(values)
    if kind == "list":
        parts = iter(_texts([*chain.from_iterable(values)], indent + " "))
        return [_on_lines([*islice(parts, len(value))], indent) for value in values]
    pick, short, long, room = _members(kind, indent)
    columns = [_texts(column, indent + " ") for column in zip(*map(pick, values), strict=True)]
    rows = [*zip(*columns, strict=True)] if columns else [()] * len(values)
    if room < 0:
        return [long % own for own in rows]
    return [(short if sum(map(len, own)) <= room else long) % own for own in rows]


def _scalars(values: Sequence[Any], types: set[type]) -> list[str]:
    if types <= _FINITE and (text := _fast(values)):
        return text[1:-1].split(",")
    if types == {str} and "\\" not in (text := msgspec.json.encode(values).decode()):
        return text[1:-1].replace('","', '"\n"').split("\n")
    return _EACH.encode(values)[1:-1].split("\n")


@lru_cache(maxsize=1024)
def _members(
    keys: tuple[str, ...], indent: str
) -> tuple[Callable[[Mapping[str, Any]], Sequence[Any]], str, str, int]:
    """For objects of these keys, which are many: what picks the values in order, and where they go.

    The second takes them on one line, if they have no more letters than the last says, and the third on many.
    """
    ordered = sorted(keys)
    pick = itemgetter(*ordered) if len(keys) > 1 else lambda value: [value[key] for key in ordered]
    starts = [f"{_JSON.encode(key)}: " for key in ordered]
    room = _WIDTH - len(indent) - 2 * len(keys) - sum(map(len, starts))
    slots = [start.replace("%", "%%") + "%s" for start in starts]
    deeper = f"\n{indent} "
    long = f"{{{deeper}{f',{deeper}'.join(slots)}\n{indent}}}"
    return pick, f"{{{', '.join(slots)}}}", long, room


def _numbers(lists: Sequence[Sequence[Any]]) -> list[str]:
    """Lists of numbers, truth values and nothing else: on one line, however long."""
    if text := _fast(lists):
        return text.replace(",", ", ")[1:-1].replace("], [", "]\n[").split("\n")
    return [_fast(own).replace(",", ", ") or _JSON.encode(own) for own in lists]


def _fast(values: Sequence[Any]) -> str:
    """Numbers as a list, ten times as fast as Python does it; empty where its text may be another."""
    text = msgspec.json.encode(values)
    if b"n" in text or b"e" in text or b"0.0000" in text:  # null may be NaN, exponents are written otherwise
        return ""
    return text.decode()


def _on_lines(parts: Sequence[str], indent: str) -> str:
    """A list on one line where it fits: what is on several lines itself never does."""
    if sum(map(len, parts)) + 2 * len(parts) + len(indent) <= _WIDTH:
        return f"[{', '.join(parts)}]"
    deeper = f"\n{indent} "
    return f"[{deeper}{f',{deeper}'.join(parts)}\n{indent}]"
