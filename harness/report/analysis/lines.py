"""What one line says besides its scores: block, order, marks, budget and signals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter, methodcaller

from harness.report.analysis.model import CONTROLS, RECONSTRUCTIONS, Line
from harness.report.analysis.scores import entropy_curve, mean_of, mean_of_rows, means_of
from harness.report.data.groups import Group
from harness.statistics.intervals import MIN_SEEDS

BUDGET_TOLERANCE = 0.05


def block_of(group: Group) -> str:
    """Heading under which the row stands: controls, its track, or the reconstructions."""
    if group.role != "method":
        return CONTROLS
    return RECONSTRUCTIONS if group.reconstruction else f"Track: {group.track}"


def line_order(line: Line) -> tuple[object, ...]:
    """Sort key: controls (base model on top), then tracks; ranked before unranked, best first."""
    block = {CONTROLS: 0, "Track: main": 1, RECONSTRUCTIONS: 3}.get(line.block, 2)
    score = line.score if line.score is not None else -1.0
    unranked = line.rank is None
    return block, line.block, line.group.role, unranked, -score, line.group.method


def marks_of(
    group: Group, expected: int | None, scored: bool, tokens: float | None, reference_tokens: float | None
) -> tuple[str, ...]:
    """Short remarks beside the name: composed, untuned, missing seeds or evaluations, unequal budget."""
    marks = []
    if group.card.fidelity == "composed":
        marks.append("composed")
    if group.role == "method" and not group.tuned:
        marks.append("untuned")
    if any(record.tuning_stale for record in group.records):
        marks.append("tuned with older code")
    if expected is not None and len(group.seeds) < expected:
        marks.append(f"{len(group.seeds)} of {expected} seeds")
    if not scored:
        marks.append("evaluation incomplete")
    if group.role != "base" and tokens and reference_tokens:
        more = tokens / reference_tokens - 1
        if abs(more) > BUDGET_TOLERANCE:
            marks.append(f"budget {100 * more:+.0f} %")
    return tuple(marks)


def entropy_ends(group: Group) -> tuple[float, float] | None:
    """First and last probe entropy in nats, averaged over seeds."""
    curve = entropy_curve(group)
    if curve is None:
        return None
    mean_T = mean_of_rows(curve.values_ST)
    return float(mean_T[0]), float(mean_T[-1])


BUDGET = (
    "generated_tokens",
    "updates",
    "steps",
    "train_tokens",
    "extra_forward_tokens",
    "verifier_calls",
    "wall_s",
)
_BUDGET = attrgetter(*BUDGET)
_SIGNALS = ("activity", "target_tracking_error")
#: Of a test set, beside its scores.
_SIDE = ("distinct", "distinct_correct", "mean_length", "truncated", "unparsed")
_MEASURES = attrgetter(*_SIDE)


@dataclass(frozen=True)
class Training:
    """What a row says in every table alike: means over seeds of budget, activity and distance to a target.

    ``entropy`` is the first and last probe entropy in nats.
    """

    numbers: Mapping[str, float | None]
    entropy: tuple[float, float] | None

    @property
    def tokens(self) -> float | None:
        return self.numbers["generated_tokens"]


def training_of(group: Group, reference: str) -> Training:
    """What the runs' training was like."""
    numbers = means_of([record.budget for record in group.records], BUDGET, _BUDGET)
    numbers |= means_of(group.records, _SIGNALS, attrgetter(*_SIGNALS))
    if group.role != "method" or group.method == reference:
        numbers["activity"] = None  # it is measured against plain GRPO, which these rows are
    if group.role != "base":
        numbers["lr"] = mean_of(group.records, lambda record: record.train.get("lr"))
        edge = group.records[0].lr_at_grid_edge
        if edge is not None and "train.lr" not in group.changes:  # a control's own rate was not tuned
            numbers["lr_at_grid_edge"] = float(edge)
    return Training(numbers, entropy_ends(group))


def set_numbers(group: Group, name: str) -> dict[str, float | None]:
    """Means over seeds: the side measures of test set ``name``."""
    evals = [record.evals[name] for record in group.records if name in record.evals]
    if len(evals) < len(group.records):
        return dict.fromkeys(_SIDE)
    numbers = means_of(evals, _SIDE, _MEASURES)
    majorities = [entry.maj for entry in evals]
    if votes := set().union(*majorities):
        n = min(entry.n for entry in evals)
        # The rule of pass@k, n >= 2k, holds for every printed k.
        printed = sorted((k for k in votes if 2 * int(k) <= n), key=int)
        numbers |= {f"maj@{k}": mean_of(majorities, methodcaller("get", k)) for k in printed}
    return numbers


def rankable(line: Line) -> bool:
    """Tuned, all planned seeds there (at least three), every test set evaluated, and no reconstruction."""
    group = line.group
    return (
        group.role == "method"
        and group.tuned
        and not group.reconstruction
        and len(group.seeds) >= max(MIN_SEEDS, line.expected or 0)
        and line.score is not None
    )
