"""Result records from a file: those that can be read, and by name those that cannot and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from harness.records import migrate
from harness.records.record import ROLES, Record, RunResult
from harness.util.collector import collector_paused
from harness.util.errors import UserError
from harness.util.files import parse_json

#: Those that can be read.
SCHEMAS = (1, 2)
#: Schema -> decoder.
_RECORDS: dict[int, Any] = {1: msgspec.json.Decoder(migrate.Record1), 2: msgspec.json.Decoder(Record)}
_RESULTS: dict[int, Any] = {1: msgspec.json.Decoder(migrate.RunResult1), 2: msgspec.json.Decoder(RunResult)}
#: Guesses the decoder, which is faster than a union of both types; the decoder itself checks the schema.
_OLD = re.compile(rb'"schema":\s*1\b')
#: Where to look for it: keys are sorted, so it stands near the end of a long line.
_SCHEMA = b'"schema":'
#: How many values a byte has, and by n the bytes from 0 to n.
_BYTES = 256
_UP_TO = tuple(bytes(range(n + 1)) for n in range(_BYTES))


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
        # what is read stays: looking through it for garbage again and again takes as long as reading
        with path.open("rb", buffering=1 << 20) as lines, collector_paused(freeze=True):
            for number, line in enumerate(lines, 1):
                if line.isspace():
                    continue
                try:
                    records.append(read_record(line))
                except ValueError as error:
                    left_out.append(f"left out: {path}:{number}: {error}")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return LoadedRecords(tuple(records), tuple(left_out))


def read_record(text: str | bytes) -> Record:
    """One record, brought to today's schema.

    Raises:
        ValueError: it is damaged or of a schema that cannot be read here; the message names the record.
    """
    found = _decoded(text, _RECORDS)
    record: Record = migrate.record_of_schema_2(found) if isinstance(found, migrate.Record1) else found
    _check_counts(record)
    return record


def read_result(text: str | bytes) -> RunResult:
    """A run's result, brought to today's schema.

    Raises:
        ValueError: as of :func:`read_record`.
    """
    found = _decoded(text, _RESULTS)
    result: RunResult = migrate.result_of_schema_2(found) if isinstance(found, migrate.RunResult1) else found
    _check_counts(result)
    return result


def _decoded(text: str | bytes, decoders: Mapping[int, Any]) -> Any:
    data = text.encode() if isinstance(text, str) else text
    try:
        old = _OLD.match(data, max(0, data.rfind(_SCHEMA)))
        return decoders[1 if old else 2].decode(data)
    except (ValueError, RecursionError):
        pass  # what is wrong is told below, unless it is a NaN, which Python writes and JSON has not
    try:
        plain = parse_json(text)
    except ValueError as error:
        raise ValueError(f"a damaged record ({error}); restore the file, or collect again") from error
    if not isinstance(plain, dict):
        raise ValueError("not a record; restore the file, or collect again")
    try:
        wanted = decoders[1 if plain.get("schema") == 1 else 2].type
        return msgspec.convert(plain, wanted)
    except ValueError as error:
        raise ValueError(_wrong(plain, str(error), wanted)) from error


def _wrong(plain: dict[str, Any], reason: str, wanted: type[RunResult]) -> str:
    """What is wrong with a record that is not of its type, and what to do."""
    name = f"record {plain.get('run_id', '?')}"
    if plain.get("schema") not in SCHEMAS:
        readable = " and ".join(map(str, SCHEMAS))
        return (
            f"{name} has schema {plain.get('schema')!r}, this version reads schema {readable}: "
            "collect the run again with this version"
        )
    needed = [f.encode_name for f in msgspec.structs.fields(wanted) if f.required]
    missing = [key for key in needed if key not in plain]
    if missing:
        return f"{name} lacks {', '.join(missing)}: collect the run again"
    if plain.get("role", "method") not in ROLES:
        return f"{name} has role {plain['role']!r}: use one of {ROLES}"
    return f"{name} is not of schema {plain['schema']} ({reason}); collect the run again"


def _check_counts(result: RunResult) -> None:
    """Counts that no samples can have given are a damaged record, whatever else it says."""
    for name, entry in result.evals.items():
        for part in (entry, entry.passes) if entry.passes else (entry,):
            if part.correct and not _possible(part.correct, part.n):
                raise ValueError(
                    f"record {result.run_id}: right answers on {name} lie outside 0 to n={part.n}; "
                    "collect the run again"
                )


def _possible(correct: list[int], n: int) -> bool:
    """Whether all lie in 0 to n; small ones go through bytes, which takes a third as long."""
    if 0 <= n < _BYTES:
        try:
            return not bytes(correct).translate(None, _UP_TO[n])
        except ValueError:  # some count is below 0 or over 255
            return False
    return min(correct) >= 0 and max(correct) <= n
