"""Result records from a file: those that can be read, and by name those that cannot and why."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.report.data.groups import SCHEMA, Record, check_record
from harness.util.errors import UserError
from harness.util.files import parse_json

#: Schema -> what makes a record of it one of the next. There has been one schema so far.
MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


@dataclass(frozen=True)
class LoadedRecords:
    """``left_out``: a line for each record that no table may use, with its place and the reason."""

    records: tuple[Record, ...]
    left_out: tuple[str, ...]


def load_records(path: Path) -> LoadedRecords:
    """The records in ``path`` (one JSON object a line), none without it; a bad one never hides the others.

    Raises:
        UserError: the file cannot be read.
    """
    if not path.exists():
        return LoadedRecords((), ())
    records, left_out = [], []
    try:
        with path.open("rb", buffering=1 << 20) as lines, _nothing_to_collect():
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    records.append(read_record(line))
                except ValueError as error:
                    left_out.append(f"left out: {path}:{number}: {error}")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return LoadedRecords(tuple(records), tuple(left_out))


@contextmanager
def _nothing_to_collect() -> Iterator[None]:
    """What is read stays: looking through all of it for garbage again and again takes as long as reading.

    Nor need the collector look through it later, so it is frozen.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()


def read_record(text: str | bytes) -> Record:
    """One record, brought to today's schema.

    Raises:
        ValueError: it is damaged or of a schema that cannot be read here; the message names the record.
    """
    try:
        record = parse_json(text)
    except ValueError as error:
        raise ValueError(f"a damaged record ({error}); restore the file, or collect again") from error
    if not isinstance(record, dict):
        raise ValueError("not a record; restore the file, or collect again")
    schema = record.get("schema")
    while isinstance(schema, int) and schema < SCHEMA and schema in MIGRATIONS:
        record = MIGRATIONS[schema](record)
        schema = record.get("schema")
    check_record(record)
    for name, entry in record["evals"].items():
        _check_counts(str(record.get("run_id", "?")), name, entry)
    return record


def _check_counts(run_id: str, name: str, entry: Any) -> None:
    """Counts that no samples can have given are a damaged record, whatever else it says."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"record {run_id}: what it says of {name} is no evaluation; collect the run again")
    for part in (entry, entry.get("pass") or {}):
        n, correct = part.get("n"), part.get("correct")
        if correct and (not isinstance(n, int) or min(correct) < 0 or max(correct) > n):
            raise ValueError(
                f"record {run_id}: right answers on {name} lie outside 0 to n={n}; collect the run again"
            )
