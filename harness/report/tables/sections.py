"""Which tables a report has, once for all output formats: heading, columns and blocks of lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.report.analysis.equal import SHARE, Equal
from harness.report.analysis.levels import POWER
from harness.report.analysis.model import Line, Report
from harness.report.tables.collapse_columns import LEAD, collapse_columns
from harness.report.tables.columns import Column, cost_columns, headline_columns, percent, set_columns
from harness.report.tables.entropy_columns import entropy_columns, equal_columns, law_columns
from harness.report.tables.explain import set_title
from harness.report.tables.robust_columns import robust_columns, robust_lead

_INTERVAL = (
    "± is a 95 % interval for pass@1 on fresh training seeds and fresh problems, given by its ends where it "
    "is lopsided; [min, max] are the seeds where there are fewer than three."
)
_RANKED = " Methods that cannot be told apart share ranks."
_ENTROPY = (
    "Probe entropy in nats per token: fresh rollouts on fixed held-out prompts at temperature 1, the same "
    "for every row. Right and wrong are the training rollouts with that verdict, at the method's own "
    "temperature."
)
#: Said where every column of the others needs no word, because the notes or the lead explain it.
_EXPLAINED = ("method", "rank", "interval", "delta", "seeds")
_LAW = (
    "The fit of R = −a exp(H) + b (arXiv 2505.22617) to the checkpoints: R is pass@1 on the validation set, "
    "H the training entropy just before, a mean of up to five steps (for the untrained model: of the first)."
    " [low, high] of a, b and the ceiling is a 95 % interval over the "
    "seeds, each with a fit of its own (Student t); fewer than three seeds have none. H "
    "carries an error of its own, which flattens a. Where something holds the entropy up the "
    "law does not apply, and the fit only describes."
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

    @property
    def legend(self) -> tuple[tuple[str, str], ...]:
        """``(header, meaning)`` of the columns that no note explains."""
        return tuple(
            (column.header, column.help)
            for column in self.columns
            if column.key not in _EXPLAINED and not column.key.startswith("pass@")
        )


def sections_of(report: Report) -> list[Section]:
    """Scores, entropy, rise and fall, rates, equal pass@1, law, cost: those with anything to show."""
    first, *others = report.tables
    headline = headline_columns(first)
    lead = _INTERVAL + _RANKED * report.ranked
    found = [Section("average", set_title(first.name), lead, headline, first.blocks, first.name)]
    found += [
        Section(table.name, set_title(table.name), _INTERVAL, set_columns(table), table.blocks, table.name)
        for table in others
    ]
    if entropy := entropy_columns(report):
        lead = f"{_ENTROPY}{_overtaken(report)}"
        found.append(Section("entropy", "Entropy", lead, entropy, first.blocks))
    trained = _kept(first.blocks, lambda line: line.group.role != "base")
    if collapse := collapse_columns(report):
        fallen = _kept(trained, lambda line: line.numbers.get("rise_step") is not None)
        found.append(Section("collapse", "Rise and fall", LEAD, collapse, fallen))
    if report.robustness and (robust := robust_columns(report)):
        tried = _kept(first.blocks, lambda line: line.numbers.get("robust_best") is not None)
        found.append(
            Section("robust", "Over all learning rates", robust_lead(report.robustness), robust, tried)
        )
    if report.equal and (equal := equal_columns(report)):
        there = _kept(trained, lambda line: line.numbers.get("equal_seeds") is not None)
        found.append(Section("equal", "At equal pass@1", _equal_lead(report, report.equal), equal, there))
    if law := law_columns(report):
        fitted = _kept(trained, lambda line: line.numbers.get("law_a") is not None)
        found.append(Section("law", "Score against entropy", _LAW, law, fitted))
    lead = (
        "Means over the seeds. Runs stop at equal generated tokens; what else they used stands here. Wall "
        "times are of runs beside other work on the same machine and say little about a method."
    )
    spent = _kept(trained, lambda line: not line.group.evaluation_only)
    if sum(len(lines) for _, lines in spent) < sum(len(lines) for _, lines in trained):
        lead += " Controls that only evaluate another row's training are left out: it is paid for once."
    found.append(Section("cost", "What it cost", lead, cost_columns(), spent))
    return found


def _overtaken(report: Report) -> str:
    """Said where no row has a column for it: the base model overtakes nobody."""
    lines = report.tables[0].lines
    base = report.curves.get("base/base")
    trained = [line for line in lines if line.group.role != "base" and line.score is not None]
    if base is None or not trained or any(line.numbers.get("overtaken_at") is not None for line in trained):
        return ""
    width = min(base.shape[1], *(report.curves[line.group.key].shape[1] for line in trained))
    return (
        f" At no k ≤ {width} does the base model reach a row that it was below at k = 1." if width > 1 else ""
    )


def _equal_lead(report: Report, equal: Equal) -> str:
    return (
        f"Where each run first reaches {percent(equal.level)} % pass@1 on the validation set: "
        f"{100 * SHARE:.0f} % of the way from {report.reference}'s start to the best checkpoint of its "
        "weakest seed. At equal tokens a row that learns less keeps its diversity for nothing. Interpolated "
        "between checkpoints, over the seeds that get there; a dash where none does; [ ] are the smallest "
        "and largest seed, not an interval. p is two-sided, over seeds and validation problems, "
        f"Holm-corrected over this table{_power(equal)}. Validation also chose the hyper-parameters. Rows "
        "without a training "
        "of their own (the base model, controls of the evaluation alone) are left out on purpose."
    )


def _power(equal: Equal) -> str:
    if equal.detectable is None:
        return ""
    return (
        f"; a true difference of {100 * equal.detectable:.1f} points is found with {100 * POWER:.0f} % "
        "probability in the median row"
    )


def _kept(blocks: Blocks, wanted: Callable[[Line], bool]) -> Blocks:
    kept = [(name, [line for line in lines if wanted(line)]) for name, lines in blocks]
    return [(name, lines) for name, lines in kept if lines]
