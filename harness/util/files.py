"""Writing files so that a reader, or a run that is killed, never meets half of one; reading JSON fast."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it once written and synced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Sorted keys, so that equal values are equal bytes."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def parse_json(text: str | bytes) -> Any:
    """What :func:`json.loads` gives, several times faster; NaN and infinities, which JSON has not, are None.

    Raises:
        ValueError: it is no JSON.
    """
    import msgspec

    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        # it says better what is wrong, and reads the NaN that Python writes of a run that diverged
        try:
            return json.loads(text, parse_constant=lambda name: None, parse_float=_finite)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def _finite(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None
