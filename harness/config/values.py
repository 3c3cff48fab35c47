"""Values -> the fields of a configuration: renamed, checked against their types, put into dataclasses.

A setting is a key with dots, ``train.lr``, and a plain value. Which values a type takes is what OmegaConf's
typed nodes take, so that a run keeps its identity: ``1`` is a number where ``1.0`` is wanted, and so is a
text that reads as one. Only more is taken: ``1e6`` where a whole number is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from harness.util.errors import UserError

#: Old name -> new one: stored configurations are read by either, a person is told the new one.
RENAMED = {"train.mirror": "train.tracking"}
_YES, _NO = ("true", "yes", "y", "on"), ("false", "no", "n", "off")


def flatten(raw: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"train": {"lr": 1}}`` as ``{"train.lr": 1}``; dotted keys stay as they are."""
    flat: dict[str, Any] = {}
    for key, value in raw.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


@lru_cache(maxsize=1024)
def types_of(cls: type) -> dict[str, Any]:
    """Key -> type of every field of a dataclass; those of a dataclass inside it as ``field.inner``."""
    found: dict[str, Any] = {}
    for name, kind, _ in _fields(cls):
        inner = types_of(kind) if _is_section(kind) else {}
        found |= {f"{name}.{key}": own for key, own in inner.items()} or {name: kind}
    return found


def made(cls: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """The dataclass ``cls`` with the checked ``values`` of its keys, which begin with ``prefix``."""
    own: dict[str, Any] = {}
    for name, kind, default in _fields(cls):
        key = prefix + name
        if _is_section(kind):
            own[name] = made(kind, values, f"{key}.")
        else:
            value = values.get(key, default)
            own[name] = list(value) if isinstance(value, list) else value
    return cls(**own)


def _is_section(kind: Any) -> bool:
    return is_dataclass(kind)


@lru_cache(maxsize=1024)
def _fields(cls: type) -> tuple[tuple[str, Any, Any], ...]:
    """Name, type and default of the fields that a configuration sets; a default has the field's type."""
    hints, found = get_type_hints(cls), []
    for f in fields(cls):  # type: ignore[arg-type]
        default = f.default if f.default_factory is MISSING else f.default_factory()
        if not _is_section(hints[f.name]):
            if default is MISSING:
                raise UserError(f"{cls.__name__}.{f.name} has no default; give it one")
            default = typed(f.name, default, hints[f.name])
        found.append((f.name, hints[f.name], default))
    return tuple(found)


def typed(key: str, value: Any, kind: Any) -> Any:
    """``value`` as the ``kind`` of the setting ``key``: int, float, bool, str, a list, or None beside one.

    Raises:
        UserError: another type; names the key, the value, what is wanted and an example.
    """
    if kind is Any:
        return value
    if isinstance(value, str) and ("${" in value or value == "???"):
        raise UserError(f"{key}={value} stands for a value from elsewhere; write the value itself")
    if get_origin(kind) in (Union, UnionType):
        inner = [own for own in get_args(kind) if own is not NoneType]
        if len(inner) < len(get_args(kind)) and value is None:
            return None
        kind = inner[0] if len(inner) == 1 else kind
    if get_origin(kind) is list and isinstance(value, list | tuple):
        return [typed(f"{key}[{i}]", item, get_args(kind)[0]) for i, item in enumerate(value)]
    found = _KINDS.get(get_origin(kind) or kind)
    if found is None:
        raise UserError(
            f"{key} has the type {kind}; make it int, float, bool, str, a list, or None beside one"
        )
    convert, wanted, example = found
    try:
        return convert(value)
    except (ValueError, OverflowError):
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
        raise UserError(
            f"{key}={shown} is not {wanted}; write it as in {key.partition('[')[0]}={example}"
        ) from None


def whole(value: Any) -> int:
    """``value`` as a whole number, also one written as ``1e6`` (unlike OmegaConf) or as digits.

    Raises:
        ValueError: it is none.
    """
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) not in (int, str):
        raise ValueError(value)
    return int(value)


def _number(value: Any) -> float:
    if type(value) not in (float, int, str):
        raise ValueError
    return float(value)


def _truth(value: Any) -> bool:
    if isinstance(value, int):
        return value != 0
    if not isinstance(value, str):
        raise ValueError
    word = value.lower()
    return word in _YES if word in (*_YES, *_NO) else int(value) != 0


def _text(value: Any) -> str:
    if value is None or isinstance(value, Mapping | list | tuple | set | bytes):
        raise ValueError
    return str(value)


def _refused(*_: Any) -> Any:
    raise ValueError


#: What converts a value to a type, how a complaint calls the type, and an example.
_KINDS: dict[Any, tuple[Any, str, str]] = {
    int: (whole, "a whole number", "3"),
    float: (_number, "a number", "0.5"),
    bool: (_truth, "true or false", "true"),
    str: (_text, "text", "word"),
    list: (_refused, "a list", "[…,…]"),
}
