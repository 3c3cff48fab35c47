"""Which tables a report has, once for all output formats: heading, columns and blocks of lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.report.columns import Column, cost_columns, entropy_columns, headline_columns, set_columns
from harness.report.explain import set_title
from harness.report.model import Line, Report

_INTERVAL = (
    "± is a 95 % interval for pass@1 on fresh training seeds and fresh problems; methods that cannot be told "
    "apart share ranks."
)
Blocks = list[tuple[str, list[Line]]]


@dataclass(frozen=True)
class Section:
    """One printed table. ``set_name`` is the evaluation set of a table of scores and None of the others."""

    id: str
    heading: str
    lead: str
    columns: Sequence[Column]
    blocks: Blocks
    set_name: str | None = None


def sections_of(report: Report) -> list[Section]:
    """Scores averaged, scores of each set, entropy, cost: those that have anything to show."""
    first, *others = report.tables
    headline = headline_columns(first)
    found = [Section("average", set_title(first.name), _INTERVAL, headline, first.blocks, first.name)]
    found += [
        Section(table.name, set_title(table.name), _INTERVAL, set_columns(table), table.blocks, table.name)
        for table in others
    ]
    entropy = entropy_columns(first.lines)
    if entropy:
        lead = "Probe entropy in nats per token, on fixed held-out prompts, the same for every row."
        found.append(Section("entropy", "Entropy", lead, entropy, _kept(first.blocks, lambda line: True)))
    lead = "Means over the seeds. Runs stop at equal generated tokens; what else they used stands here."
    trained = _kept(first.blocks, lambda line: line.group.role != "base")
    found.append(Section("cost", "What it cost", lead, cost_columns(), trained))
    return found


def _kept(blocks: Blocks, wanted: Callable[[Line], bool]) -> Blocks:
    kept = [(name, [line for line in lines if wanted(line)]) for name, lines in blocks]
    return [(name, lines) for name, lines in kept if lines]
