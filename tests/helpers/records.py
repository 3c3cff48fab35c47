"""Rows of synthetic records, as JSON has them, brought to their type."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from harness.records.load import read_record, read_result
from harness.records.record import Record, RunResult


def typed(rows: Iterable[Mapping[str, Any]]) -> list[Record]:
    """The rows as a file of them would be read; what no record can be raises ``ValueError``."""
    return [read_record(json.dumps(row)) for row in rows]


def typed_result(row: Mapping[str, Any]) -> RunResult:
    """A run's result, likewise."""
    return read_result(json.dumps(row))


def small_record(**known: Any) -> Record:
    """A record with what it must have, and ``known``."""
    (found,) = typed([_SMALLEST | known])
    return found


_SMALLEST = {
    "schema": 2, "run_id": "m-s1", "method": "m", "seed": 1, "model": "small", "benchmark": "letters@1",
    "numerics_version": 1, "evals": {}, "role": "method", "tuned": True,
}  # fmt: skip
