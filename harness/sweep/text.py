"""Reading YAML strictly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.config.schema import RunConfig
from harness.config.values import types_of, whole
from harness.util.errors import UserError, unknown
from harness.util.plain_yaml import parse_yaml

#: Settings of a run that are text, with dots.
_TEXT_SETTINGS = tuple(k for k, kind in types_of(RunConfig).items() if kind in (str, str | None, list[str]))
#: Keys of a sweep file, and of a tuned file, whose values are text; ``*`` stands for any key.
_TEXT_KEYS = (
    "name", "title", "subtitle", "launcher", "runs_dir", "results_dir", "tuned_from", "methods", "models",
    "training_sets", "reproduces.*", "tuning.metric", "tuning.at.*", "slurm.partition", "slurm.account",
    "slurm.qos", "slurm.constraint", "slurm.gpu_memory", "slurm.memory", "slurm.time", "slurm.setup",
    "slurm.container", "slurm.python", "slurm.export", "slurm.srun", "slurm.sbatch.*", "sweep", "*.run_id",
    "*.method_hash", "*.trials.method",
)  # fmt: skip


@lru_cache(maxsize=4096)
def is_text(keys: tuple[str, ...], kind: str) -> bool:
    """Whether a sweep or tuned file holds text under ``keys``, so that ``1e5`` there is no number."""
    dotted = ".".join(keys)
    if kind == "bool" and dotted.startswith("slurm.sbatch."):
        return False  # an option without a value
    section = {"models": "model", "training_sets": "data"}.get(keys[0])
    if section and len(keys) > 2 and f"{section}.{keys[2]}" in _TEXT_SETTINGS:
        return True
    return any(fnmatchcase(dotted, pattern) for pattern in _TEXT_KEYS) or any(
        dotted.endswith(f".{name}") for name in _TEXT_SETTINGS
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in ``path``, read by :mod:`harness.util.plain_yaml`.

    Raises:
        UserError: no such file, not YAML, doubled keys, or not a mapping.
    """
    if not path.is_file():
        raise UserError(f"no file {path}")
    raw = parse_yaml(path.read_text(encoding="utf-8"), str(path), is_text)
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
    """``value`` if it is a whole number >= 0; ``010`` is 10, ``1e3`` is 1000, as in a run's settings."""
    try:
        number = whole(value)
    except ValueError:
        number = -1
    if number < 0:
        raise UserError(f"{where}: '{value}' is not a whole number >= 0")
    return number


def positive_number(value: Any, where: str) -> float | None:
    """``value`` if it is a number > 0; None when it is missing."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise UserError(f"{where}: '{value}' is not a number > 0")
    return float(value)


def scalar(text: str, key: str = "") -> Any:
    """``text`` from the command line as a sweep file has it under ``key``: a number, a list, a word."""
    try:
        value = parse_yaml(text, key, lambda inner, kind: is_text((*key.split("."), *inner), kind))
    except UserError:
        value = text
    return text if value is None else value
