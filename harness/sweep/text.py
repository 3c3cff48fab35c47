"""Reading YAML strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.util.errors import UserError, unknown


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in ``path``; numbers such as ``1e-4`` are numbers, doubled keys are refused.

    Raises:
        UserError: no such file, not YAML, or not a mapping.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        keys = [loader.construct_object(key) for key, _ in node.value]
        doubled = {str(key) for key in keys if keys.count(key) > 1}
        if doubled:
            raise UserError(f"{path}:{node.start_mark.line + 1}: '{sorted(doubled)[0]}' is given twice")
        return dict(loader.construct_mapping(node, deep=True))

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    # YAML 1.1 reads 1e-4 as text; everyone who writes it means a number.
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )
    if not path.is_file():
        raise UserError(f"no file {path}")
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path} must hold a mapping of settings")
    return raw


def check_keys(raw: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Refuse keys that are not ``known``, naming the nearest."""
    for key in raw:
        if key not in known:
            raise unknown(f"key in {where}:", str(key), known)


def list_of(raw: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """``raw[key]`` as a list; empty when it is missing."""
    value = raw.get(key) or []
    if not isinstance(value, list | tuple):
        raise UserError(f"{where}: '{key}' must be a list, e.g. {key}: [{value}]")
    return list(value)


def mapping_of(raw: Mapping[Any, Any], key: Any, where: str) -> Mapping[Any, Any]:
    """``raw[key]`` as a mapping; empty when it is missing."""
    value = raw.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: '{key}' must be a mapping of settings")
    return value


def whole_number(value: Any, where: str) -> int:
    """``value`` if it is a whole number >= 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"{where}: '{value}' is not a whole number >= 0")
    return value


def positive_number(value: Any, where: str) -> float | None:
    """``value`` if it is a number > 0; None when it is missing."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise UserError(f"{where}: '{value}' is not a number > 0")
    return float(value)


def scalar(text: str) -> Any:
    """``text`` from the command line as YAML reads it: a number, a list, a word."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    return text if value is None else value
