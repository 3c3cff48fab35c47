"""Fields of a configuration: meaning, valid range, and whether they count for a run's identity."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from typing import Any

from harness.util.errors import UserError

#: Values of ``absent`` in :func:`hp`: the setting always, or never, belongs to a run's identity.
ALWAYS_COUNTS, NEVER_COUNTS = object(), object()
#: The setting does not belong to a run's identity; what it comes to does, by itself.
COUNTS_BY_OUTCOME = object()


def hp(
    default: Any,
    help: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: Sequence[str] | None = None,
    absent: Any = ALWAYS_COUNTS,
    names_model: bool = False,
) -> Any:
    """A hyper-parameter: a dataclass field with its meaning and its valid range.

    Args:
        default: the value of the paper or of the official code.
        help: one line, with the unit.
        ge, gt, le, lt: bounds of a number.
        choices: valid values of a string.
        absent: for a setting that is younger than existing runs: the value that leaves the numbers as they
            were before the setting existed. A run's identity does not mention the setting then.
            :data:`NEVER_COUNTS` for a setting that does not influence the numbers at all,
            :data:`COUNTS_BY_OUTCOME` for one that an identity names by what it comes to.
        names_model: the value names a model besides the policy; its weights belong to a run's identity.
    """
    rule = {"ge": ge, "gt": gt, "le": le, "lt": lt, "choices": tuple(choices) if choices else None}
    metadata = {"help": help, **{k: v for k, v in rule.items() if v is not None}}
    if names_model:
        metadata["names_model"] = True
    return field(default=default, metadata=metadata | ({} if absent is ALWAYS_COUNTS else {"absent": absent}))


def counts(f: dataclasses.Field[Any], value: Any) -> bool:
    """Whether the field ``f`` with ``value`` belongs to a run's identity (see ``absent`` of :func:`hp`)."""
    absent = f.metadata.get("absent", ALWAYS_COUNTS)
    if absent is NEVER_COUNTS or absent is COUNTS_BY_OUTCOME:
        return False
    return absent is ALWAYS_COUNTS or bool(value != absent)


def range_text(metadata: Mapping[str, Any]) -> str:
    """The valid range of a hyper-parameter in words, e.g. ``> 0, <= 1``."""
    if "choices" in metadata:
        return " | ".join(metadata["choices"])
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return ", ".join(f"{sign} {metadata[key]:g}" for key, sign in signs.items() if key in metadata) or "any"


def check_ranges(config: Any, where: str) -> None:
    """Check every :func:`hp` field of a dataclass instance against its range.

    Raises:
        UserError: names the field, the value and the valid range.
    """
    for f in fields(config):
        value, rule = getattr(config, f.name), f.metadata
        if value is None or "help" not in rule:
            continue
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        bad = (
            ("choices" in rule and value not in rule["choices"])
            or (numeric and not math.isfinite(value))
            or (numeric and "ge" in rule and value < rule["ge"])
            or (numeric and "gt" in rule and value <= rule["gt"])
            or (numeric and "le" in rule and value > rule["le"])
            or (numeric and "lt" in rule and value >= rule["lt"])
        )
        if bad:
            raise UserError(f"{where}.{f.name}={value} is out of range; valid: {range_text(rule)}")
