"""From finished runs to result records: ``results/<sweep>/records.jsonl``, the source of every table.

Equal runs give equal bytes. A record whose row has been run again with newer code moves to
``records.old.jsonl``, and so do all of a past numerics version once the first run of the next is there;
nothing is ever deleted, and the two are never mixed in a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.records.load import read_record
from harness.records.record import MethodCard, Record, Settings, as_record
from harness.records.write import record_line, write_records
from harness.registry import cards, methods
from harness.sweep.jobs import Backend, Job
from harness.sweep.plan import ledger, states
from harness.sweep.sweep import Sweep
from harness.sweep.tuned import is_stale
from harness.util.errors import UserError
from harness.util.files import write_text
from harness.util.locks import locked

RECORDS, OLD_RECORDS, LEFT_OUT = "records.jsonl", "records.old.jsonl", "records.left-out.jsonl"
_SETTING = ("model_name", "training_set")
#: Of a run's configuration what the result itself does not hold, for whoever asks how a number was made.
_SETTINGS = Settings.__struct_fields__


@dataclass(frozen=True)
class Collected:
    """The records of a sweep as they now stand.

    Attributes:
        new: records that were not there before.
        older_rows: rows that come from older code.
        planned: runs of the sweep.
        damaged: run folder -> why its result was left out.
        unusable: what to say of each line of the records' file that is no record that can be read; such
            lines are kept in ``records.left-out.jsonl``.
        running: planned runs that somebody is at just now, this sweep or another that shares them.
        set_aside: past numerics version -> records of it that left the table this time.
    """

    records: list[Record]
    path: Path
    new: int
    older_rows: tuple[str, ...]
    planned: int
    damaged: Mapping[Path, str]
    running: int = 0
    unusable: tuple[str, ...] = ()
    set_aside: Mapping[int, int] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Nothing that should be a record was left out."""
        return not self.damaged and not self.unusable


def collect(sweep: Sweep, jobs: Sequence[Job], backend: Backend) -> Collected:
    """Write the records of all finished runs; committed records stay where a run is not on this machine.

    Two collectors take turns. One that is killed leaves the records as they were, or as they should be.
    """
    with locked(ledger(sweep).folder.parent / "collect.lock", wait=True):
        return _collect(sweep, jobs, backend)


def _collect(sweep: Sweep, jobs: Sequence[Job], backend: Backend) -> Collected:
    path, archive = sweep.results / RECORDS, sweep.results / OLD_RECORDS
    existing, unusable, bad = _readable(path)
    old = read_records(archive)
    current: dict[tuple[str, ...], Record] = {}
    damaged: dict[Path, str] = {}
    found = states(jobs, ledger(sweep))
    for item, state in zip(jobs, found, strict=True):
        if state.state == "done":
            try:
                current[_planned_key(sweep, item)] = record_of(sweep, item, backend)
            except DamagedResult as error:
                damaged[item.folder] = str(error)
    planned = {_planned_key(sweep, item) for item in jobs}
    for record in existing:
        if _key(record) in planned:
            current.setdefault(_key(record), record)
    fresh = {_row(record) for record in current.values()}
    versions = {_version(record) for record in current.values()}
    kept: list[Record] = []
    moved: list[Record] = []
    for record in existing:
        if _key(record) not in planned:
            stays = _row(record) not in fresh and (not versions or _version(record) in versions)
            (kept if stays else moved).append(record)
    records = sorted([*current.values(), *kept], key=_order)
    if moved:
        # written first: killed in between, the record stands in both files and is moved again
        archived = {record_line(record) for record in old}
        added = [record for record in moved if record_line(record) not in archived]
        write_records(archive, sorted([*old, *added], key=_order))
    if bad:  # like older records: first to the other file, then out of this one
        _keep_aside(path.with_name(LEFT_OUT), bad)
    if records != existing or bad:
        write_records(path, records)
    known = {_key(record): record for record in existing}
    new = sum(known.get(_key(record)) != record for record in records)
    rows = tuple(sorted({record.method for record in kept}))
    running = len({item.run_id for item, s in zip(jobs, found, strict=True) if s.state == "running"})
    now = {record.numerics_version for record in records}
    aside = Counter(record.numerics_version for record in moved if record.numerics_version not in now)
    return Collected(records, path, new, rows, len(planned), damaged, running, unusable, aside)


def _readable(path: Path) -> tuple[list[Record], tuple[str, ...], list[str]]:
    """The records in ``path``; what to say of lines that cannot be read; those lines."""
    records, told, bad = [], [], []
    for number, line in _lines(path):
        try:
            records.append(read_record(line))
        except ValueError as error:
            told.append(f"left out: {path}:{number}: {error}")
            bad.append(line.decode("utf-8", errors="replace"))
    return records, tuple(told), bad


def _keep_aside(path: Path, lines: Sequence[str]) -> None:
    there = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    write_text(path, "".join(f"{line}\n" for line in dict.fromkeys([*there, *lines])))


def told(collected: Collected) -> list[str]:
    """What a person should know about runs that were left out, a line each with the remedy."""
    lines = [f"{line}; the line is now in {LEFT_OUT}" for line in collected.unusable]
    lines += [
        f"left out: {folder.name}: {reason}; delete {folder / 'result.json'} and submit again"
        for folder, reason in collected.damaged.items()
    ]
    lines += [
        f"{count} records of numerics version {version} are now in {OLD_RECORDS}; their own leaderboard: "
        f"entrobench report {collected.path.parent} --numerics {version}"
        for version, count in sorted(collected.set_aside.items())
    ]
    if collected.running:
        lines.append(f"{collected.running} of {collected.planned} runs are running; collect again later")
    return lines


class DamagedResult(Exception):
    """A ``result.json`` that is not a whole result of its run."""


def record_of(sweep: Sweep, item: Job, backend: Backend) -> Record:
    """The run's result with what only the sweep knows.

    Raises:
        DamagedResult: the file cannot be read, is cut off, or belongs to another run.
    """
    try:
        result = backend.result(item.folder)
    except (OSError, ValueError, UserError) as error:
        raise DamagedResult(f"its result cannot be read ({' '.join(str(error).split())[-120:]})") from error
    if result.run_id != item.folder.name:
        raise DamagedResult(f"its result is that of {result.run_id}")
    choice = item.choice or {}
    edge = choice.get("lr_at_grid_edge")
    return as_record(
        result,
        run_id=item.run_id,
        sweep=sweep.name,
        role=item.role,
        method=item.label,
        tuned=item.choice is not None,
        tuning_choice=dict(choice["settings"]) if item.choice else None,
        changes=dict(item.changes) if item.changes else None,
        settings=Settings(**{key: item.config[key] for key in _SETTINGS}),
        method_card=None if item.role == "base" else card_header(item.method),
        lr_at_grid_edge=None if edge is None else bool(edge),
        tuning_stale=is_stale(choice, result.method_hash or "", result.numerics_version),
        **_setting(sweep, item),
    )


@lru_cache(maxsize=1024)
def card_header(method: str) -> MethodCard | None:
    """What tables say about a method; None for a method file without a card."""
    try:
        card = cards.read_card(methods.find(method))
    except UserError:
        if ".py" in method:
            return None
        raise
    return MethodCard(
        title=card.title,
        track=card.track,
        fidelity=card.fidelity,
        reconstruction=card.reconstruction,
        paper=card.paper,
    )


def read_records(path: Path) -> list[Record]:
    """The records in ``path``, none when there is no such file.

    Raises:
        UserError: a line that is not a record.
    """
    records = []
    for number, line in _lines(path):
        try:
            records.append(read_record(line))
        except ValueError as error:
            raise UserError(f"{path}:{number} is not a result record: {error}") from error
    return records


def _lines(path: Path) -> list[tuple[int, bytes]]:
    """Number and bytes of every line that is not blank: only a line feed ends one, text may hold others."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _setting(sweep: Sweep, item: Job) -> dict[str, str]:
    """Which of the sweep's models and training sets: two settings may share a run, but are two rows."""
    if not (sweep.models or sweep.training_sets):
        return {}
    return dict(zip(_SETTING, item.table_setting, strict=True))


def _planned_key(sweep: Sweep, item: Job) -> tuple[str, ...]:
    setting = _setting(sweep, item)
    return item.run_id, item.label, *(str(setting.get(key)) for key in _SETTING)


def _key(record: Record) -> tuple[str, ...]:
    return record.run_id, record.method, str(record.model_name), str(record.training_set)


def _row(record: Record) -> tuple[str, ...]:
    place = str(record.model_name), str(record.training_set)
    return record.role, record.method, record.model, record.benchmark, *place


def _version(record: Record) -> tuple[str, ...]:
    return str(record.numerics_version), record.benchmark


def _order(record: Record) -> tuple[Any, ...]:
    return *_row(record), record.seed, record.run_id
