"""Result records as text: sorted keys, so that equal records are equal bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from harness.records.record import Record, RunResult
from harness.util.files import write_text
from harness.util.intact import write_sealed


def plain(result: RunResult) -> dict[str, Any]:
    """The record as JSON has it, with its schema; what is empty is left out."""
    return dict(msgspec.to_builtins(result))


def record_line(record: Record) -> str:
    """The record as a line of ``records.jsonl``, without its end; equal exactly for equal records."""
    return json.dumps(plain(record), sort_keys=True, ensure_ascii=False)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write ``records.jsonl``, whole or not at all."""
    write_text(path, "".join(record_line(record) + "\n" for record in records))


def write_result(path: Path, result: RunResult) -> None:
    """Write a run's ``result.json``, whole or not at all, with its checksum beside it."""
    write_sealed(path, plain(result))
