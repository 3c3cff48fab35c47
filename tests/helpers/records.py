"""Rows of synthetic records, as JSON has them, brought to their type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from harness.records.load import read_record, read_result
from harness.records.record import Record, RunResult


def typed(rows: Iterable[Mapping[str, Any]]) -> list[Record]:
    """The rows as a file of them would be read; what no record can be raises ``ValueError``."""
    return [read_record(msgspec.json.encode(row)) for row in rows]


def typed_result(row: Mapping[str, Any]) -> RunResult:
    """A run's result, likewise."""
    return read_result(msgspec.json.encode(row))
