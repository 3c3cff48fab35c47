"""From finished runs to result records: ``results/<sweep>/records.jsonl``, the source of every table.

Equal runs give equal bytes. A record stays where a run of the same identity turns up that is another run
(:mod:`harness.sweep.rivals`), unless one asks for the run. A record whose row has been run again with newer
code moves to ``records.old.jsonl``, and so do all of a past numerics version once the first run of the next
is there; nothing is ever deleted, and the two are never mixed in a table.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.records.load import load_records, read_record
from harness.records.record import MethodCard, Record, Settings, as_record
from harness.records.write import record_line, write_records
from harness.registry import cards, methods
from harness.sweep.jobs import Backend, Job
from harness.sweep.plan import ledger, states
from harness.sweep.recorded import RECORDS, planned_key, record_key, setting_of
from harness.sweep.rivals import Rival, rivals_told, same_run
from harness.sweep.sweep import Sweep
from harness.sweep.tuned import is_stale
from harness.util.errors import UserError
from harness.util.files import write_text
from harness.util.locks import locked

OLD_RECORDS, LEFT_OUT = "records.old.jsonl", "records.left-out.jsonl"
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
        older: rows whose records of older code left it, with how many.
        rivals: records whose run here is another of the same identity; ``replaced``: those runs were taken.
        updated: records whose own run has more to say than before.
        file: the sweep file.
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
    older: Mapping[str, int] = field(default_factory=dict)
    rivals: tuple[Rival, ...] = ()
    replaced: bool = False
    updated: int = 0
    file: Path = Path()

    @property
    def whole(self) -> bool:
        """Nothing that should be a record was left out, and no run contradicts one."""
        contradicted = not self.replaced and any(one.differs for one in self.rivals)
        return not self.damaged and not self.unusable and not contradicted


@dataclass(frozen=True)
class Standing:
    """The records of a sweep as they stand, whatever runs there are.

    Attributes:
        left_out: a line for each line of the file that is no record.
        older_rows: rows that come from older code.
        finished: finished runs of the sweep here that no record holds.
    """

    records: tuple[Record, ...]
    left_out: tuple[str, ...]
    older_rows: tuple[str, ...]
    finished: int


def standing(sweep: Sweep, jobs: Sequence[Job]) -> Standing:
    """Read the sweep's records; runs are only counted."""
    loaded = load_records(sweep.results / RECORDS)
    there = {record_key(record) for record in loaded.records}
    planned = {planned_key(sweep, item) for item in jobs}
    older = sorted({record.method for record in loaded.records if record_key(record) not in planned})
    found = states(jobs, ledger(sweep))
    finished = sum(
        state.state == "done" and planned_key(sweep, item) not in there
        for item, state in zip(jobs, found, strict=True)
    )
    return Standing(loaded.records, loaded.left_out, tuple(older), finished)


def collect(sweep: Sweep, jobs: Sequence[Job], backend: Backend, *, replace: bool = False) -> Collected:
    """Write the records of all finished runs; a record stays where its run is not on this machine.

    Two collectors take turns. One that is killed leaves the records as they were, or as they should be.

    Args:
        replace: take a run also where the record of another run of the same identity is there.
    """
    with locked(ledger(sweep).folder.parent / "collect.lock", wait=True):
        return _collect(sweep, jobs, backend, replace)


def _collect(sweep: Sweep, jobs: Sequence[Job], backend: Backend, replace: bool) -> Collected:
    path, archive = sweep.results / RECORDS, sweep.results / OLD_RECORDS
    existing, unusable, bad = _readable(path)
    old = read_records(archive)
    current: dict[tuple[str, ...], Record] = {}
    damaged: dict[Path, str] = {}
    found = states(jobs, ledger(sweep))
    for item, state in zip(jobs, found, strict=True):
        if state.state == "done":
            try:
                current[planned_key(sweep, item)] = record_of(sweep, item, backend)
            except DamagedResult as error:
                damaged[item.folder] = str(error)
    planned = {planned_key(sweep, item) for item in jobs}
    rivals: list[Rival] = []
    for record in existing:
        run = current.get(record_key(record))
        if run is not None and not same_run(record, run):
            rivals.append(Rival(record, run))
            if replace:
                continue
            current[record_key(record)] = record
        elif record_key(record) in planned:
            current.setdefault(record_key(record), record)
    fresh = {_row(record) for record in current.values()}
    seeds = {(_row(record), record.seed) for record in current.values()}
    codes = {_code(record) for record in current.values()}
    versions = {_version(record) for record in current.values()}
    kept: list[Record] = []
    beside: list[Record] = []  # further seeds of the same code, which this time's options leave out
    moved: list[Record] = []
    for record in existing:
        if record_key(record) not in planned:
            stays = _row(record) not in fresh and (not versions or _version(record) in versions)
            further = (_row(record), record.seed) not in seeds and _code(record) in codes
            (kept if stays else beside if further else moved).append(record)
    records = sorted([*current.values(), *kept, *beside], key=_order)
    if moved:
        # written first: killed in between, the record stands in both files and is moved again
        archived = {record_line(record) for record in old}
        added = [record for record in moved if record_line(record) not in archived]
        write_records(archive, sorted([*old, *added], key=_order))
    if bad:  # like older records: first to the other file, then out of this one
        _keep_aside(path.with_name(LEFT_OUT), bad)
    if records != existing or bad:
        write_records(path, records)
    known = {record_key(record): record for record in existing}
    new = sum(record_key(record) not in known for record in records)
    taken = len(rivals) if replace else 0
    updated = (
        sum(record_key(record) in known and known[record_key(record)] != record for record in records) - taken
    )
    rows = tuple(sorted({record.method for record in kept}))
    running = len({item.run_id for item, s in zip(jobs, found, strict=True) if s.state == "running"})
    now = {record.numerics_version for record in records}
    aside = Counter(record.numerics_version for record in moved if record.numerics_version not in now)
    older = Counter(record.method for record in moved if record.numerics_version in now)
    return Collected(
        records, path, new, rows, len(planned), damaged, running, unusable, aside, older,
        tuple(rivals), replace, updated, sweep.path,
    )  # fmt: skip


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
    """What a person should know about records that changed and runs that were left out, a line each."""
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
    if collected.older:
        named = ", ".join(f"{row} ({count})" for row, count in sorted(collected.older.items()))
        lines.append(f"records of older code are now in {OLD_RECORDS}: {named}")
    again = f"entrobench sweep collect {collected.file} --replace"
    lines += rivals_told(collected.rivals, again, replaced=collected.replaced)
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
        regime=sweep.regime or None,
        role=item.role,
        method=item.label,
        tuned=item.choice is not None,
        tuning_choice=dict(choice["settings"]) if item.choice else None,
        changes=dict(item.changes) if item.changes else None,
        settings=Settings(**{key: item.config[key] for key in _SETTINGS}),
        method_card=None if item.role == "base" else card_header(item.method),
        lr_at_grid_edge=None if edge is None else bool(edge),
        tuning_stale=is_stale(choice, result.method_hash or "", result.numerics_version),
        **setting_of(sweep, item),
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


def _row(record: Record) -> tuple[str, ...]:
    place = str(record.model_name), str(record.training_set)
    return record.role, record.method, record.model, record.benchmark, *place


def _code(record: Record) -> str:
    """Equal for the seeds of a row that belong together: of one code and one configuration."""
    parts = (record.method_hash, record.numerics_version, record.model_hash, record.data_hash)
    return json.dumps([*_row(record), *parts, record.hyperparameters, record.train], sort_keys=True)


def _version(record: Record) -> tuple[str, ...]:
    return str(record.numerics_version), record.benchmark


def _order(record: Record) -> tuple[Any, ...]:
    return *_row(record), record.seed, record.run_id
