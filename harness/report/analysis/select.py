"""Part of a sweep's rows: ``--select tracks=[main] methods=[grpo,steer] models=[…]``.

The untrained model, the controls and the reference stay whatever is selected, because a score means little
without them. Everything is worked out on all rows first, and rows are left out afterwards: choosing rows
after seeing them must not make a difference more certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.records.record import Record
from harness.report.analysis.model import Report
from harness.report.data.grid import setting_of
from harness.report.data.groups import Group
from harness.util.errors import UserError, unknown

KEYS = ("tracks", "methods", "models")


@dataclass(frozen=True)
class RowSelection:
    """What is wanted; an empty field wants everything."""

    tracks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """For the heading; empty where everything is wanted."""
        told = [f"{key} {', '.join(getattr(self, key))}" for key in KEYS if getattr(self, key)]
        if not told:
            return ""
        return (
            f"Selected: {'; '.join(told)}. Ranks, intervals, corrections and notes are over all rows, "
            "not only those shown."
        )


def parse(words: Sequence[str]) -> RowSelection:
    """The selection that ``key=[a,b]`` words describe.

    Raises:
        UserError: another key, or no value.
    """
    found: dict[str, tuple[str, ...]] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in KEYS:
            raise unknown("selection", key, KEYS, "(write e.g. --select tracks=[main] methods=[grpo,dapo])")
        names = tuple(name.strip() for name in value.strip("[]").split(",") if name.strip())
        if not names:
            raise UserError(f"--select {key}= needs a name, e.g. {key}=[…]")
        found[key] = (*found.get(key, ()), *names)
    return RowSelection(**found)


def of_models(records: Sequence[Record], wanted: RowSelection) -> list[Record]:
    """The records of the models that are wanted, of all rows: what the statistics are over.

    Raises:
        UserError: a track, method or model that no record has; the message names the nearest.
    """
    tracks = {_track(record) for record in records if record.role == "method"}
    methods = {record.method for record in records if record.role == "method"}
    models = {setting_of(record)[0] for record in records}
    for key, known in (("tracks", tracks), ("methods", methods), ("models", models)):
        for name in getattr(wanted, key):
            if name not in known:
                raise unknown(key.removesuffix("s"), name, sorted(known), "(--select)")
    return [record for record in records if not wanted.models or setting_of(record)[0] in wanted.models]


def shown(report: Report, wanted: RowSelection) -> Report:
    """The report with the wanted rows only, every number as it was."""
    groups = tuple(group for group in report.groups if _wanted(group, wanted, report.reference))
    keys = {group.key for group in groups}
    tables = tuple(
        replace(t, lines=tuple(line for line in t.lines if line.group.key in keys)) for t in report.tables
    )
    equal = report.equal
    if equal is not None:
        equal = replace(equal, rows={key: row for key, row in equal.rows.items() if key in keys})
    return replace(
        report,
        notes=tuple(note for note in report.notes if note[0] != "Missing"),  # nobody asked for those rows
        groups=groups,
        tables=tables,
        curves={key: curve for key, curve in report.curves.items() if key in keys},
        discipline={key: found for key, found in report.discipline.items() if key in keys},
        equal=equal,
    )


def _wanted(group: Group, wanted: RowSelection, reference: str) -> bool:
    if group.role != "method" or group.method == reference:
        return True
    in_track = not wanted.tracks or group.track in wanted.tracks
    return in_track and (not wanted.methods or group.method in wanted.methods)


def _track(record: Record) -> str:
    return (record.method_card and record.method_card.track) or "main"
