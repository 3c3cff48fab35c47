"""Rows of a mathematics set, from a local file or from the Hugging Face hub, checked as they are read."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.problems.text import content_digest, text_hash
from harness.util.errors import UserError
from harness.util.files import write_text
from harness.util.offline import cache_folder

#: Environment variable: the folder (or file) that sets are read from instead of the hub.
DATA_VARIABLE = "ENTROBENCH_DATA"
#: A date with what datasets puts behind it.
_MIDNIGHT = re.compile(r"\d{4}-\d\d-\d\d 00:00:00")
#: Environment variable: where fetched copies are kept, by default in ``$HF_HOME/entrobench``.
CACHE_VARIABLE = "ENTROBENCH_CACHE"


@dataclass(frozen=True)
class ProblemRow:
    """One problem; ``extra`` holds what else the file says of it."""

    id: str
    problem: str
    answer: str
    extra: dict[str, Any] = field(default_factory=dict, compare=False)


def joined(value: Any) -> str:
    """The answers of a list in one string, comma-separated."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@dataclass(frozen=True)
class Hub:
    """Where a set is on the Hugging Face hub.

    Attributes:
        problem, answer: columns; the first of several that is there. A dot reaches into a nested column.
        read_answer: makes the final answer of the column's value.
        drop_empty: known rows without an answer are left out instead of refused.
    """

    id: str
    split: str
    config: str | None = None
    data_files: str | None = None
    revision: str = "main"
    problem: tuple[str, ...] = ("problem", "question")
    answer: tuple[str, ...] = ("answer",)
    read_answer: Callable[[Any], str] = joined
    drop_empty: bool = False

    def __str__(self) -> str:
        inner = "/".join(part for part in (self.config, self.data_files, self.split) if part)
        return f"hub:{self.id}/{inner}@{self.revision}"


@dataclass(frozen=True)
class Part:
    """The file of one split, and what is known of its content.

    Attributes:
        file: stem of the local file, ``<file>.jsonl`` or ``<file>.jsonl.gz``.
        rows: number of rows.
        digest: :func:`content_digest` of the copy that the project was checked with.
        held_out: of a training set, problems of its validation split.
    """

    file: str
    rows: int
    digest: str
    hub: Hub
    held_out: int = 0


@dataclass(frozen=True)
class LoadedRows:
    """Rows with where they came from and their content digest."""

    rows: tuple[ProblemRow, ...]
    source: str
    digest: str


def load(name: str, part: Part, data_dir: str | None, accepted: Sequence[str] = ()) -> LoadedRows:
    """The rows of ``part`` of set ``name``.

    From ``data_dir``, else ``$ENTROBENCH_DATA``, else the copy that was fetched before, else the hub.

    Args:
        accepted: content digests that the user knows and accepts besides the part's own.

    Raises:
        UserError: no file, an unreadable or incomplete row, or content that is not what it should be.
    """
    place = data_dir or os.environ.get(DATA_VARIABLE) or None
    if place:
        path = local_file(name, part.file, Path(place).expanduser(), explicit=bool(data_dir))
        rows, source = tuple(_local_rows(path)), str(path)
    elif fetched(part).is_file():
        rows, source = tuple(_local_rows(fetched(part))), f"{part.hub} (fetched to {fetched(part)})"
    else:
        rows, source = tuple(_hub_rows(name, part)), str(part.hub)
    twice = [key for key, count in Counter(row.id for row in rows).items() if count > 1]
    if twice:
        raise UserError(f"{source}: id '{twice[0]}' comes twice; ids name problems, make them unique")
    digest = content_digest((row.problem, row.answer) for row in rows)
    if digest != part.digest and digest not in accepted:
        said = (
            f"{len(rows)} rows instead of {part.rows}" if len(rows) != part.rows else "other texts or answers"
        )
        raise UserError(
            f"{name}: {source} is not the set that the harness knows ({said}, content {digest} instead of "
            f"{part.digest}); get that copy, or say accept_data={name}:{digest} to use this one all the same"
        )
    return LoadedRows(rows, source, digest)


def fetched(part: Part) -> Path:
    """Where the copy of ``part`` is kept that jobs without a network read."""
    return cache_folder() / f"{part.file}-{part.digest}.jsonl"


def fetch(name: str, part: Part, data_dir: str | None, accepted: Sequence[str] = ()) -> str:
    """Make the rows of ``part`` readable without a network, checked; returns where they are."""
    loaded = load(name, part, data_dir, accepted)
    if not loaded.source.startswith("hub:") or fetched(part).is_file():
        return loaded.source
    lines = (
        json.dumps({"id": r.id, "problem": r.problem, "answer": r.answer} | r.extra) for r in loaded.rows
    )
    write_text(fetched(part), "".join(f"{line}\n" for line in lines))
    return f"{len(loaded.rows)} rows from {part.hub} to {fetched(part)}"


def missing(name: str, part: Part, data_dir: str | None) -> str:
    """Why ``part`` cannot be read without a network; empty when it can. Reads nothing."""
    place = data_dir or os.environ.get(DATA_VARIABLE) or None
    if not place:
        return "" if fetched(part).is_file() else "not fetched from the hub yet"
    try:
        local_file(name, part.file, Path(place).expanduser(), explicit=bool(data_dir))
    except UserError as error:
        return str(error)
    return ""


def local_file(name: str, stem: str, place: Path, *, explicit: bool) -> Path:
    """The file of a set: ``place`` itself, or the file called ``stem`` in the folder ``place``."""
    if place.is_file():
        return place
    for suffix in (".jsonl", ".jsonl.gz"):
        if (place / f"{stem}{suffix}").is_file():
            return place / f"{stem}{suffix}"
    what = "data_dir" if explicit else DATA_VARIABLE
    away = "leave data_dir out" if explicit else f"unset {DATA_VARIABLE}"
    raise UserError(
        f"{name}: no {stem}.jsonl or {stem}.jsonl.gz in {what}={place}; put it there (a line per problem "
        f"with id, problem and answer), or {away} to load the set from the hub"
    )


def _local_rows(path: Path) -> Iterator[ProblemRow]:
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8")
    try:
        with opened as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _local_row(f"{path} line {number}", line)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; copy it again") from error


def _local_row(where: str, line: str) -> ProblemRow:
    try:
        raw = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is not JSON ({error}); every line must be one object") from error
    if not isinstance(raw, dict):
        raise UserError(f"{where} is not an object with id, problem and answer")
    for column in ("id", "problem", "answer"):
        if column not in raw:
            raise UserError(f"{where} has no column '{column}'; it has: {', '.join(raw) or 'none'}")
        if raw[column] is None or raw[column] == [] or not str(raw[column]).strip():
            raise UserError(f"{where} has an empty {column}; fill it in or remove the line")
        _check_type(raw[column], column, where)
    extra = {k: v for k, v in raw.items() if k not in ("id", "problem", "answer")}
    return ProblemRow(str(raw["id"]), raw["problem"], joined(raw["answer"]), extra)


def _check_type(value: Any, column: str, where: str) -> None:
    """Refuse what is no text, number or, of answers, list of them; ``str`` would make Python words of it."""
    taken = {"id": (str, int), "problem": (str,)}.get(column, (str, int, float))
    parts = value if column == "answer" and isinstance(value, list | tuple) else [value]
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, taken) or not math.isfinite(_number(part)):
            wanted = "text, a number, or a list of them" if column == "answer" else "text"
            raise UserError(f"{where}: {column} is {json.dumps(value, default=str)}; write {wanted}")


def _number(value: Any) -> float:
    return value if isinstance(value, float) else 0.0


def _hub_rows(name: str, part: Part) -> Iterator[ProblemRow]:
    """Rows of the hub's copy; ids are made of the problems' text, so that they do not depend on its order."""
    hub = part.hub
    for number, raw in enumerate(_hub_table(name, part)):
        where = f"{hub} row {number}"
        problem, value = _column(raw, hub.problem, where), _column(raw, hub.answer, where)
        for column, own in (("problem", problem), ("answer", value)):
            if own is not None:
                _check_type(own, column, where)
                _check_date(own, column, name, part, where)
        problem = (problem or "").strip()
        answer = "" if value is None else hub.read_answer(value).strip()
        if not answer and hub.drop_empty:
            continue
        if not problem or not answer:
            raise UserError(f"{where} has an empty {'answer' if problem else 'problem'}; use another copy")
        yield ProblemRow(f"{name}-{text_hash(problem)}", problem, answer)


def _check_date(value: Any, column: str, name: str, part: Part, where: str) -> None:
    """Refuse a date with midnight behind it: datasets 5.2.0 makes one of "2024-03-01" in a column of dates,
    even of one that is declared a string (findings/datasets_dates_become_timestamps.sh)."""
    if isinstance(value, str) and _MIDNIGHT.fullmatch(value):
        raise UserError(
            f"{where}: {column} is '{value}', which the library datasets makes of '{value[:10]}'; for {name} "
            f"give data_dir= (or {DATA_VARIABLE}) with a file {part.file}.jsonl, which is read as written"
        )


def _hub_table(name: str, part: Part) -> Any:
    from datasets import load_dataset

    hub = part.hub
    try:
        return load_dataset(
            hub.id, hub.config, split=hub.split, data_files=hub.data_files, revision=hub.revision
        )
    except Exception as error:  # network, authentication, parsing: their types are many
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"cannot load {name} from {hub}: {reason}; give data_dir= (or {DATA_VARIABLE}) with a file "
            f"{part.file}.jsonl"
        ) from error


def _column(raw: Any, names: Sequence[str], where: str) -> Any:
    for name in names:
        value, found = raw, True
        for key in name.split("."):
            found = isinstance(value, dict) and key in value
            if not found:
                break
            value = value[key]
        if found:
            return value
    raise UserError(f"{where} has no column '{' or '.join(names)}'; it has: {', '.join(raw)}")


def whole_number(value: Any) -> str:
    """``27`` of 27.0, "027" and 27."""
    return str(int(float(str(value).replace(",", ""))))


def after_hashes(value: Any) -> str:
    """The final answer of a GSM8K solution, without thousands separators."""
    return str(value).rpartition("####")[2].strip().replace(",", "")
