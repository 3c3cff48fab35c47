"""YAML in which a word is what it looks like: the one reader of sweep files, tuned files and card headers.

YAML 1.1, which PyYAML reads, makes numbers, dates and booleans of words that people write as text:
``0123`` is 83, ``16:00`` is 960, ``on`` is true, ``2026-11-29`` is a date, and ``1e-4`` is text. Here a
number is written in decimal without leading zeros (``5_000`` is one), a boolean is ``true`` or ``false``,
nothing is ``null``, ``~`` or left empty, and everything else is text. Keys are text, and so is a value where
a caller says so: ``1.10`` and ``1e5`` stay ``1.10`` and ``1e5`` there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from harness.util.errors import UserError

#: Whether a value is text though it looks like an ``int``, ``float`` or ``bool`` (the second argument), from
#: the keys above it; a list's items have the list's keys.
IsText = Callable[[tuple[str, ...], str], bool]

_TAG = "tag:yaml.org,2002:"
_WORDS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)", "-+0123456789"),
    (
        "float",
        r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)|\.[0-9]+([eE][-+]?[0-9]+)?"
        r"|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("merge", r"<<", "<"),
)  # fmt: skip


def parse_yaml(text: str, where: str, is_text: IsText = lambda keys, kind: False) -> Any:
    """The value in ``text``; doubled keys are refused.

    Args:
        where: what messages call the text, e.g. the file's path.

    Raises:
        UserError: it is not YAML, or a key is given twice.
    """
    import yaml

    loader = _loader()(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _mark(node, (), where, is_text, set())
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()


def dump_yaml(value: Mapping[str, Any]) -> str:
    """``value`` as YAML that :func:`parse_yaml` and other readers read alike."""
    import yaml

    return str(yaml.dump(dict(value), Dumper=_dumper(), sort_keys=False, width=110))


@cache
def _loader() -> Any:
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    for kind, pattern, first in _WORDS:
        Loader.add_implicit_resolver(f"{_TAG}{kind}", re.compile(f"^(?:{pattern})$"), list(first))
    return Loader


@cache
def _dumper() -> Any:
    """Quotes what either YAML 1.1 or the reader here would not take for text."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    kind, pattern, first = next(word for word in _WORDS if word[0] == "float")
    Dumper.add_implicit_resolver(f"{_TAG}{kind}", re.compile(f"^(?:{pattern})$"), list(first))
    return Dumper


def _mark(node: Any, keys: tuple[str, ...], where: str, is_text: IsText, seen: set[int]) -> None:
    """Say of keys, and of values that are text, that they are; each node once, though aliases repeat it."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if node.id == "mapping":
        own = set()
        for key, value in node.value:
            name = str(key.value)
            if name in own:
                raise UserError(f"{where}:{key.start_mark.line + 1}: '{name}' is given twice")
            own.add(name)
            if key.id == "scalar" and not key.tag.endswith(":merge"):
                key.tag = f"{_TAG}str"
            _mark(value, (*keys, name), where, is_text, seen)
    elif node.id == "sequence":
        for item in node.value:
            _mark(item, keys, where, is_text, seen)
    elif node.tag.startswith(_TAG):
        kind = node.tag.removeprefix(_TAG)
        if kind in ("int", "float", "bool") and is_text(keys, kind):
            node.tag = f"{_TAG}str"
