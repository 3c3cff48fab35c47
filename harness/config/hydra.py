"""What a person types, in Hydra's override grammar -> settings as plain values.

The only place that reads the grammar: sweep files and stored configurations hold values already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.config.schema import RunConfig
from harness.config.values import flatten, types_of
from harness.util.errors import UserError


def parse(words: Sequence[str]) -> dict[str, Any]:
    """``["method=steer", "train.lr=2e-4", "+loss=gspo"]`` as values by key; of a key given twice, the later.

    The names after ``method=`` and ``+<stage>=`` may be paths and are taken as they stand.

    Raises:
        UserError: not the grammar, or what one run has no use for: several values, deletions, packages.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            raise UserError(f"'{word}' is not an override; write key=value, e.g. train.steps=200")
        if key == "method":
            found[key] = value.strip("'\"")
        elif key.startswith("+") and not key.startswith("++") and "." not in key:
            stage = key.replace("-", "_")
            if stage in found:
                raise UserError(
                    f"{found[stage]} and {value} both claim the stage {stage[1:]}; keep one of them"
                )
            found[stage] = value.strip("'\"")
        else:
            found |= _value(word)
    return found


def _value(word: str) -> dict[str, Any]:
    """One ``key=value``; a mapping as the settings that it holds."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import OverrideType
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(word)
        value = None if parsed.is_sweep_override() else parsed.value()
    except HydraException as error:
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        raise UserError(
            f"'{word}' is not an override: {first}; put a value with signs or blanks into quotes, key='…'"
        ) from error
    if parsed.is_sweep_override():
        raise UserError(f"'{word}' holds several values; a run has one of each, a list stands in [ ]")
    plain = parsed.type in (OverrideType.CHANGE, OverrideType.FORCE_ADD) and parsed.package is None
    if not plain:
        raise UserError(f"'{word}' adds, deletes or moves a setting; write key=value, or leave it out")
    if isinstance(value, int | float) and types_of(RunConfig).get(parsed.key_or_group) in (str, str | None):
        value = word.partition("=")[2].strip()  # a revision 12e5 is no number
    return flatten({parsed.key_or_group: value})
