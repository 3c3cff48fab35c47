"""Which planned runs a sweep's records hold already, whoever made them and wherever their folders are.

A checkout has the committed records and none of the run folders behind them. Such runs are finished: nobody
has to make them again to add a row, or to go on with a sweep that another machine began.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from harness.records.load import load_records
from harness.records.record import Record
from harness.run.state import RunState
from harness.sweep.jobs import Job
from harness.sweep.sweep import Sweep

RECORDS = "records.jsonl"
#: The parts of a record's key that name a setting of the sweep.
SETTING = ("model_name", "training_set")
Key = tuple[str, ...]


def setting_of(sweep: Sweep, item: Job) -> dict[str, str]:
    """Which of the sweep's models and training sets: two settings may share a run, but are two rows."""
    if not (sweep.models or sweep.training_sets):
        return {}
    return dict(zip(SETTING, item.table_setting, strict=True))


def planned_key(sweep: Sweep, item: Job) -> Key:
    """What the record of ``item`` will be found by."""
    setting = setting_of(sweep, item)
    return item.run_id, item.label, *(str(setting.get(key)) for key in SETTING)


def record_key(record: Record) -> Key:
    """What a record is found by: its run's identity, and its row."""
    return record.run_id, record.method, str(record.model_name), str(record.training_set)


def with_records(sweep: Sweep, jobs: Sequence[Job], found: Sequence[RunState]) -> list[RunState]:
    """``found``, with ``recorded`` for runs that are not here and whose record is.

    A record that lacks a test set that is planned now does not count, nor a line that cannot be read.
    """
    if all(state.state not in ("missing", "stale") for state in found):
        return list(found)
    there = _recorded(sweep.results / RECORDS)
    return [_state(sweep, item, state, there) for item, state in zip(jobs, found, strict=True)]


def _state(sweep: Sweep, item: Job, state: RunState, there: Mapping[Key, _Held]) -> RunState:
    held = there.get(planned_key(sweep, item)) if state.state in ("missing", "stale") else None
    if held is None or not set(item.splits) <= held.sets:
        return state
    return RunState("recorded", elapsed_s=held.seconds)


class _Held:
    """What a record says that a plan needs: the sets it has, and how long its run took."""

    def __init__(self, record: Record) -> None:
        self.sets = frozenset(record.evals)
        self.seconds = record.budget.wall_s or 0.0


def _recorded(path: Path) -> Mapping[Key, _Held]:
    """Those of the file as it is now; a display that asks again and again reads it once."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return {}
    return _read(path, now.st_mtime_ns, now.st_size)


@lru_cache(maxsize=2)
def _read(path: Path, _written_ns: int, _bytes: int) -> Mapping[Key, _Held]:
    return dict(_pairs(path))


def _pairs(path: Path) -> Iterator[tuple[Key, _Held]]:
    for record in load_records(path).records:
        yield record_key(record), _Held(record)
