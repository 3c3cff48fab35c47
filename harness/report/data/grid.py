"""Several models or training sets: a report of its own for each, and a page that leads to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.schema import slug
from harness.records.record import Record
from harness.util.files import write_text
from harness.util.words import counted


@dataclass(frozen=True)
class SettingRecords:
    """One model and one training set with the records made there.

    Attributes:
        expected: row -> number of seeds that were planned; None when that is not known.
    """

    model: str
    training_set: str
    records: tuple[Record, ...]
    expected: Mapping[str, int] | None

    @property
    def title(self) -> str:
        return f"{self.model} on {self.training_set}"

    @property
    def folder(self) -> str:
        """Name of the folder with this setting's report."""
        return slug(f"{self.model}-{self.training_set}".replace("/", "-"))

    def holds(self, model: str | None, training_set: str | None) -> bool:
        """Whether something of ``model`` and ``training_set`` belongs here; None is the only one there is."""
        return model in (None, self.model) and training_set in (None, self.training_set)

    @property
    def count(self) -> str:
        """``12 of 15 runs``, the untrained model apart."""
        planned = sum(self.expected.values()) if self.expected else 0
        there = sum(record.role != "base" for record in self.records)
        return f"{there} of {counted(planned, 'run')}" if planned else counted(there, "run")


def setting_of(record: Record) -> tuple[str, str]:
    """Model and training set of a record, as its sweep names them."""
    return record.model_name or record.model, record.training_set or record.benchmark.partition("@")[0]


def by_setting(
    records: Sequence[Record], expected: Mapping[tuple[str, str], Mapping[str, int]] | None = None
) -> list[SettingRecords]:
    """The records by setting, planned settings first and in their order, then the others sorted."""
    found: dict[tuple[str, str], list[Record]] = {key: [] for key in expected or {}}
    for key in sorted({setting_of(record) for record in records}):
        found.setdefault(key, [])
    for record in records:
        found[setting_of(record)].append(record)
    return [SettingRecords(*key, tuple(rows), (expected or {}).get(key)) for key, rows in found.items()]


def write_index(
    grid: Sequence[SettingRecords], out: Path, *, title: str, subtitle: str, below: Sequence[str] = ()
) -> Path:
    """``leaderboard.md`` that leads to the reports of all settings; unfinished ones are named.

    Args:
        below: lines after the list.
    """
    lines = [f"# {title}", ""]
    lines += [subtitle, ""] if subtitle else []
    lines += ["One table for each model and training set: scores are compared within a table only.", ""]
    lines += ["| model | training set | runs | report |", "|:--|:--|--:|:--|"]
    for setting in grid:
        link = f"[table]({setting.folder}/leaderboard.md), [page]({setting.folder}/leaderboard.html)"
        shown = link if setting.records else "no finished run yet"
        lines.append(f"| {setting.model} | {setting.training_set} | {setting.count} | {shown} |")
    lines += ["", *below[:-1]] if below else []
    path = out / "leaderboard.md"
    write_text(path, "\n".join(lines) + "\n")
    return path


def as_expected(rows: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str], dict[str, int]]:
    """(model, training set, row) of every planned run -> planned seeds by setting and row."""
    expected: dict[tuple[str, str], dict[str, int]] = {}
    for model, training_set, label in rows:
        own: dict[str, Any] = expected.setdefault((model, training_set), {})
        own[label] = own.get(label, 0) + 1
    return expected
