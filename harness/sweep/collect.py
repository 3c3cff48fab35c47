"""From finished runs to result records: ``results/<sweep>/records.jsonl``, the source of every table.

Equal runs give equal bytes. A record whose row has been run again with newer code moves to
``records.old.jsonl``; nothing is ever deleted, and the two are never mixed in a table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import catalog
from harness.errors import UserError
from harness.files import write_text
from harness.sweep.jobs import Backend, Job
from harness.sweep.plan import ledger, states
from harness.sweep.spec import Sweep

RECORDS, OLD_RECORDS = "records.jsonl", "records.old.jsonl"


@dataclass(frozen=True)
class Collected:
    """The records of a sweep as they now stand, and the rows that come from older code."""

    records: list[dict[str, Any]]
    path: Path
    new: int
    older_rows: tuple[str, ...]
    planned: int


def collect(sweep: Sweep, jobs: Sequence[Job], backend: Backend) -> Collected:
    """Write the records of all finished runs; committed records stay where a run is not on this machine."""
    path, archive = sweep.results / RECORDS, sweep.results / OLD_RECORDS
    existing, old = read_records(path), read_records(archive)
    current = {
        (item.run_id, item.label): record_of(sweep, item, backend)
        for item, state in zip(jobs, states(jobs, ledger(sweep)), strict=True)
        if state.state == "done"
    }
    planned = {(item.run_id, item.label) for item in jobs}
    for record in existing:
        if (record["run_id"], record["method"]) in planned:
            current.setdefault((record["run_id"], record["method"]), record)
    fresh = {_row(record) for record in current.values()}
    versions = {_version(record) for record in current.values()}
    leftover = [r for r in existing if (r["run_id"], r["method"]) not in planned]
    kept = [r for r in leftover if _row(r) not in fresh and (not versions or _version(r) in versions)]
    moved = [r for r in leftover if r not in kept]
    records = sorted([*current.values(), *kept], key=_order)
    if moved:
        write_records(archive, sorted([*old, *(r for r in moved if r not in old)], key=_order))
    if records != existing:
        write_records(path, records)
    known = [json.dumps(r, sort_keys=True) for r in existing]
    new = sum(json.dumps(r, sort_keys=True) not in known for r in records)
    rows = tuple(sorted({str(r["method"]) for r in kept}))
    return Collected(records, path, new, rows, len(planned))


def record_of(sweep: Sweep, item: Job, backend: Backend) -> dict[str, Any]:
    """The run's result with what only the sweep knows."""
    record = backend.result(item.folder)
    card = None if item.role == "base" else card_header(item.method)
    choice = dict(item.choice["settings"]) if item.choice else None
    return record | {
        "run_id": item.run_id,
        "sweep": sweep.name,
        "role": item.role,
        "method": item.label,
        "tuned": item.choice is not None,
        "tuning_choice": choice,
        "method_card": card,
    }


def card_header(method: str) -> dict[str, Any] | None:
    """What tables say about a method; None for a method file without a card."""
    try:
        card = catalog.cards().read_card(catalog.methods().find(method))
    except UserError:
        if ".py" in method:
            return None
        raise
    return {
        "title": card.title,
        "track": card.track,
        "fidelity": card.fidelity,
        "reconstruction": card.reconstruction,
        "paper": card.paper,
    }


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records in ``path``, none when there is no such file.

    Raises:
        UserError: a line that is not a record.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            records.append(dict(json.loads(line)))
        except ValueError as error:
            raise UserError(f"{path}:{number} is not a result record: {error}") from error
    return records


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(r, sort_keys=True, ensure_ascii=False) + "\n" for r in records))


def _row(record: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(record.get(k)) for k in ("role", "method", "model", "benchmark"))


def _version(record: Mapping[str, Any]) -> tuple[str, ...]:
    return str(record.get("numerics_version")), str(record.get("benchmark"))


def _order(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*_row(record), int(record.get("seed") or 0), str(record.get("run_id")))
