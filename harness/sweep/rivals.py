"""Records and runs of equal identity: the record that is there stays, unless one asks for the run.

An identity names what the numbers depend on, not when and where they were made. A run made here may therefore
have the identity of a committed record and still be another run: other commit, hardware, wall time, and,
where a promise of determinism was broken, other numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import asdict, replace

from harness.records.record import Record

#: Where and when a run was made. ``budget.wall_s`` belongs to it, too.
_PROVENANCE = ("commit", "hardware", "untested_on_gpu", "processes_used", "trained_by")
#: What the sweep knows of a run; a later look at the same run may know more.
_OF_THE_SWEEP = (
    *("sweep", "regime", "method", "role", "tuned", "tuning_choice", "changes", "settings", "method_card"),
    *("model_name", "training_set", "lr_at_grid_edge", "tuning_stale"),
)
_MOST = 6


@dataclass(frozen=True)
class Rival:
    """A record, and a finished run of the same identity that is another one."""

    record: Record
    run: Record

    @property
    def differs(self) -> tuple[str, ...]:
        """Fields whose numbers differ; empty where only provenance does."""
        before, after = (_numbers(record) for record in (self.record, self.run))
        return tuple(key for key in before if before[key] != after[key])


def same_run(record: Record, run: Record) -> bool:
    """Whether a record is of this very run, which a later evaluation may have added to."""
    return all(getattr(record, key) == getattr(run, key) for key in ("commit", "hardware", "budget"))


def rivals_told(rivals: Sequence[Rival], again: str, *, replaced: bool) -> list[str]:
    """What happened to the records, a line for each pair of commits.

    Args:
        again: the command that takes the runs.
    """
    groups: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for one in rivals:
        key = str(one.record.commit), str(one.run.commit), one.differs
        groups.setdefault(key, []).append(f"{one.record.method} seed {one.record.seed}")
    lines = []
    for (before, after, differs), names in sorted(groups.items()):
        how = f"differ in {', '.join(differs)}" if differs else "differ only in where and when they were made"
        what = f"{len(names)} records of commit {before}"
        if replaced:
            lines.append(f"replaced {what} by runs of commit {after}, which {how}: {_named(names)}")
        else:
            lines.append(
                f"kept {what}; the runs here of the same identity, of commit {after}, {how}: "
                f"{_named(names)}; to take them: {again}"
            )
    return lines


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST
    return ", ".join(names) if more < 2 else f"{', '.join(names[:_MOST])} and {more} more"


def _numbers(record: Record) -> dict[str, Any]:
    plain = asdict(replace(record, budget=replace(record.budget, wall_s=None)))
    return {key: value for key, value in plain.items() if key not in (*_PROVENANCE, *_OF_THE_SWEEP)}
