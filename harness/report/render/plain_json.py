"""JSON for people: sorted keys, a line for every short list or object, numbers as they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any

import msgspec

from harness.util.collector import collector_paused

#: Characters of a line; lists of numbers may be longer.
_WIDTH = 110
_NUMBERS = {int, float, bool, type(None)}
_FINITE = {int, float}
#: For what is rare: everything else is written here, as starting the encoder takes longer than a short value.
_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, allow_nan=False)


@collector_paused()
def json_text(data: Mapping[str, Any]) -> str:
    """JSON with sorted keys that a person can read in a diff: a line for every short list or object.

    Raises:
        ValueError: a number that JSON has not, as NaN.
    """
    return _pretty(data, "") + "\n"


def _float(value: float) -> str:
    text = float.__repr__(value)
    return _JSON.encode(value) if "n" in text else text  # nan and inf: the encoder refuses them


_SCALARS: dict[type, Callable[[Any], str]] = {
    str: encode_basestring, float: _float, int: int.__repr__,
    bool: lambda value: "true" if value else "false", type(None): lambda value: "null",
}  # fmt: skip


@lru_cache(maxsize=1024)
def _members(keys: tuple[str, ...]) -> list[tuple[str, str]]:
    """The keys in their order, each with what stands before its value: objects of the same keys are many."""
    return [(key, f"{_JSON.encode(key)}: ") for key in sorted(keys)]


def _pretty(value: Any, indent: str) -> str:
    scalar = _SCALARS.get(type(value))
    if scalar:
        return scalar(value)
    if isinstance(value, dict):
        deeper, scalar_of = indent + " ", _SCALARS.get
        parts = [
            start + (plain(part) if (plain := scalar_of(type(part := value[key]))) else _pretty(part, deeper))
            for key, start in _members(tuple(value))
        ]
        return _on_lines(parts, "{", "}", indent)
    if isinstance(value, (list, tuple)):
        kinds = set(map(type, value))
        if kinds <= _NUMBERS:
            return _numbers(value, kinds)
        return _on_lines([_pretty(part, indent + " ") for part in value], "[", "]", indent)
    return _JSON.encode(value)


def _numbers(values: Sequence[Any], kinds: set[type]) -> str:
    """A list of numbers, truth values and nothing else: on one line, however long."""
    if kinds <= _FINITE:
        text = msgspec.json.encode(values)  # ten times as fast, but for NaN and exponents the same
        if b"n" not in text and b"e" not in text and b"0.0000" not in text:
            return text.decode().replace(",", ", ")
    return _JSON.encode(values)


def _on_lines(parts: Sequence[str], start: str, end: str, indent: str) -> str:
    """The parts on one line where they fit; a line break within a part says that they do not."""
    line = ", ".join(parts)
    if (len(line) + len(indent) + 2 <= _WIDTH or not parts) and "\n" not in line:
        return f"{start}{line}{end}"
    deeper = f"\n{indent} "
    return f"{start}{deeper}{f',{deeper}'.join(parts)}\n{indent}{end}"
