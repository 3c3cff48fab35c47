"""The papers' own numbers beside ours where method, model, benchmark and metric agree; elsewhere why not.

Equal names are not equal protocols. A pair says by which profile ours was measured; papers sample, prompt and
grade in their own ways, so a pair is a look, never a test.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.report.analysis.model import Report
from harness.report.data.groups import Group
from harness.report.data.reported import BASE, Beside, Reported


def set_beside(report: Report, rows: Sequence[Reported]) -> list[Beside]:
    """The printed numbers of the report's methods, in the file's order, each with ours or the reason.

    Differences in points are left out: the values that they are taken from stand in the file.
    """
    return [pair for row in rows if row.unit != "points" for pair in _pairs(report, row)]


def _pairs(report: Report, row: Reported) -> Iterator[Beside]:
    for group in report.groups:
        if group.role == "control" or not _same_method(group, row):
            continue
        model = group.records[0].model_name or group.records[0].model
        if model.rpartition("/")[2].lower() != row.model.rpartition("/")[2].lower():
            yield Beside(row, None, group.method, "", f"ours is {model}")
            continue
        if not all(row.benchmark in record.evals for record in group.records):
            yield Beside(row, None, group.method, "", f"ours is not evaluated on {row.benchmark}")
            continue
        profile = group.records[0].evals[row.benchmark].profile or "the split's own sampling"
        ours = _value(report, group, row)
        why_not = "" if ours is not None else f"ours has no {row.estimates} ({row.unit}) there"
        yield Beside(row, ours, group.method, profile, why_not)


def _same_method(group: Group, row: Reported) -> bool:
    if row.method == BASE:
        return group.role == "base" and group.method == BASE
    # a variant that the paper names is that variant; its plain name is any of ours
    return group.role == "method" and (
        group.method == row.method or group.method.partition("@")[0] == row.method
    )


def _value(report: Report, group: Group, row: Reported) -> float | None:
    """Ours by the same estimator, as a percentage or a share; other units have no counterpart here."""
    if row.unit not in ("percent", "fraction"):
        return None
    table = next((table for table in report.tables if table.name == row.benchmark), None)
    line = next((line for line in table.lines if line.group is group), None) if table else None
    if line is None:
        return None
    kind, _, k = row.estimates.partition("@")
    share = line.pass_at.get(int(k)) if kind == "pass" and k else line.numbers.get(row.estimates)
    return None if share is None else share * (100 if row.unit == "percent" else 1)
