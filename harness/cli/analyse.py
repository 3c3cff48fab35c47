"""``entrobench analyse NAME RUN… key=value…``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.analyses.write import table, write
from harness.config.fields import check_ranges
from harness.config.values import made, typed, types_of
from harness.registry import analyses
from harness.util.errors import UserError, unknown


def analyse(name: str, words: Sequence[str], to: str | None) -> int:
    """Run the analysis ``name`` on every run or model of ``words``, print tables and keep them as files."""
    cls = analyses.load(name)
    chosen = _settings(name, cls, [word for word in words if "=" in word])
    named = [word for word in words if "=" not in word]
    if not named:
        raise UserError(f"name what is analysed: entrobench analyse {name} RUN…, the folders of runs")
    for word in named:
        finding = chosen.of(word)
        print(f"{name}: {finding.label}\n\n{table(finding)}\n")
        written = write(finding, name, None if to is None else Path(to).expanduser())
        for file in written:
            print(f"written: {file}")
        if not written:
            print("nothing is written for a model; --to FOLDER keeps it")
    return 0


def _settings(name: str, cls: Any, words: Sequence[str]) -> Any:
    """The analysis with the settings of ``words``."""
    types, values = types_of(cls), dict[str, Any]()
    for word in words:
        key, _, value = word.partition("=")
        if key not in types:
            raise unknown(f"setting of {name}", key, types)
        values[key] = typed(key, None if value == "null" else value, types[key])
    chosen = made(cls, values)
    check_ranges(chosen, name)
    return chosen
