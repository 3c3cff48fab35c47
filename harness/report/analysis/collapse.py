"""What collapse looks like: how far a row rises on the validation set, and what it has lost by the end.

* *maximum*: the checkpoint with the highest mean over seeds. Of several noisy checkpoints the best looks
  better than it is, so what is *lost* is taken crosswise: for each seed, its score at the checkpoint where
  the other seeds have their maximum, minus its own at the end. A row that loses nothing is then around 0,
  also below. A single seed has its own maximum, and loses something by chance alone.
* *below*: the step from which on a seed's pass@k stays below the untrained model's (its own first
  checkpoint), interpolated between checkpoints.
* *equal groups*: prompts whose responses in training are all right or all wrong, mean over the last quarter.
* *distinct right*: different right answers of a validation problem at the maximum and at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from harness.records.record import FrontierPoint, Record
from harness.report.analysis.entropy import late
from harness.report.analysis.scores import Curve, FloatArray, curve_of, entropy_at, frontier_k, mean_of
from harness.report.data.groups import Group
from harness.statistics import difference_to_fixed, pass_at_k, seed_noise

#: Names of a row's numbers.
COLLAPSE = (
    *("rise_step", "lost_pass_1", "lost_pass_1_low", "lost_pass_1_high", "rise_k_step"),
    *("lost_pass_k", "lost_pass_k_low", "lost_pass_k_high", "below_share", "below_step", "entropy_at_rise"),
    *("entropy_at_below", "equal_groups", "distinct_right_rise", "distinct_right_end", "above_target"),
)


@dataclass(frozen=True)
class Course:
    """One row's pass@k on the validation set over training.

    Attributes:
        curve: at the checkpoints that all seeds have, and at their ends.
        lost_S: of each seed, the score at the maximum minus that at the end.
        lost_P: the same of each validation problem, mean over seeds; None where seeds took other problems.
    """

    curve: Curve
    lost_S: FloatArray
    lost_P: FloatArray | None

    @property
    def step(self) -> float:
        """Where the mean over seeds is highest; the earliest of equal ones."""
        return float(self.curve.steps_T[int(np.argmax(self.curve.values_ST.mean(axis=0)))])

    @property
    def lost(self) -> float:
        return float(self.lost_S.mean())


def collapses(groups: Sequence[Group]) -> dict[str, dict[str, float | None]]:
    """Numbers of every row with a training of its own, by :attr:`Group.key`; empty without checkpoints."""
    k = frontier_k(groups)
    trained = [group for group in groups if group.role != "base" and not group.evaluation_only]
    if k is None:
        return {}
    courses = {group.key: (course(group, 1, k), course(group, k, k)) for group in trained}
    known = {key: pair for key, pair in courses.items() if pair[0] and pair[1]}
    ends = [_ends([pair[place] for pair in known.values()]) for place in (0, 1)]
    found: dict[str, dict[str, float | None]] = {}
    for group in trained:
        one, many = known.get(group.key, (None, None))
        numbers = _of_training(group)
        if one is not None and many is not None:
            numbers |= _falls(group, one, many, k)
            for name, own, spans in (("lost_pass_1", one, ends[0]), ("lost_pass_k", many, ends[1])):
                low, high = spans.get(id(own)) or (None, None)
                numbers |= {name: own.lost, f"{name}_low": low, f"{name}_high": high}
        if any(number is not None for number in numbers.values()):
            found[group.key] = dict.fromkeys(COLLAPSE) | numbers
    return found


def course(group: Group, k: int, least: int) -> Course | None:
    """pass@``k`` over training; None unless every seed has checkpoints of at least ``2 * least`` samples."""
    points = [_points(record, least) for record in group.records]
    scores = [{step: _problems(point, k) for step, point in own.items()} for own in points]
    curve = curve_of([{step: float(p.mean()) for step, p in own.items()} for own in scores])
    if curve is None or len(curve.steps_T) < 2:
        return None
    values_ST = curve.values_ST
    best = [_maximum(values_ST, seed) for seed in range(len(values_ST))]
    lost_S = np.array([own[at] - own[-1] for own, at in zip(values_ST, best, strict=True)])
    apart = []
    for own, at in zip(scores, best, strict=True):
        end = max(own)
        step = end if at == len(curve.steps_T) - 1 else int(curve.steps_T[at])
        if own[step].shape == own[end].shape:
            apart.append(own[step] - own[end])
    alike = len(apart) == len(scores) and len({len(part) for part in apart}) == 1
    return Course(curve, lost_S, np.mean(apart, axis=0) if alike else None)


def below_from(record: Record, k: int) -> float | None:
    """The step from which on pass@``k`` stays below that of the untrained model; None where it does not."""
    values = [(step, float(_problems(point, k).mean())) for step, point in sorted(_points(record, k).items())]
    if len(values) < 2 or values[0][0] != 0 or values[-1][1] >= values[0][1]:
        return None
    base = values[0][1]
    last = max(i for i, (_, value) in enumerate(values) if value >= base)
    (step_a, a), (step_b, b) = values[last : last + 2]
    return step_a + (a - base) / (a - b) * (step_b - step_a)


def _maximum(values_ST: FloatArray, seed: int) -> int:
    """Where the seeds other than ``seed`` are highest on average; its own maximum where there is no other."""
    others = np.delete(values_ST, seed, axis=0) if len(values_ST) > 1 else values_ST
    return int(np.argmax(others.mean(axis=0)))


def _ends(courses: Sequence[Course | None]) -> dict[int, tuple[float, float]]:
    """95 % intervals of what is lost, over fresh seeds and problems, by the identity of the course.

    The seeds' noise is pooled over rows, as for the scores.
    """
    known = [own for own in courses if own is not None]
    width = max((len(own.lost_S) for own in known), default=0)
    matrix = np.full((len(known), width), np.nan)
    for row, own in enumerate(known):
        matrix[row, : len(own.lost_S)] = own.lost_S
    noise = seed_noise(matrix) if known else None
    found = {}
    for own in known:
        if own.lost_P is None or noise is None:
            continue
        ends = difference_to_fixed(own.lost_S, [own.lost_P], [np.zeros(len(own.lost_P))], noise)
        if ends is not None:
            found[id(own)] = ends
    return found


def _falls(group: Group, one: Course, many: Course, k: int) -> dict[str, float | None]:
    below = [below_from(record, k) for record in group.records]
    there = [(record, at) for record, at in zip(group.records, below, strict=True) if at is not None]
    step = many.step
    return {
        "rise_step": one.step,
        "rise_k_step": step,
        "below_share": len(there) / len(below),
        "below_step": float(np.mean([at for _, at in there])) if there else None,
        "entropy_at_rise": _mean([_entropy(record, many, step) for record in group.records]),
        "entropy_at_below": _mean([entropy_at(record, at) for record, at in there]),
        "distinct_right_rise": _mean([_distinct(record, many, step) for record in group.records]),
        "distinct_right_end": _mean(
            [_distinct(record, many, many.curve.steps_T[-1]) for record in group.records]
        ),
    }


def _of_training(group: Group) -> dict[str, float | None]:
    return {
        "equal_groups": late(group, "equal_groups"),
        "above_target": mean_of(group.records, attrgetter("above_target")),
    }


def _at(record: Record, whole: Course, step: float) -> int:
    """The checkpoint of ``record`` at a step of the row's curve, whose last is each seed's own end."""
    own = max(point.step for point in record.frontier if point.correct)
    return own if step == whole.curve.steps_T[-1] else int(step)


def _entropy(record: Record, whole: Course, step: float) -> float | None:
    return entropy_at(record, float(_at(record, whole, step)))


def _distinct(record: Record, whole: Course, step: float) -> float | None:
    at = _at(record, whole, step)
    counts = next((p.distinct_correct for p in record.frontier if p.step == at), None)
    return float(np.mean(counts)) if counts else None


def _points(record: Record, k: int) -> dict[int, FrontierPoint]:
    return {point.step: point for point in record.frontier if point.correct and point.n >= 2 * k}


def _problems(point: FrontierPoint, k: int) -> FloatArray:
    """[P] pass@``k`` of each validation problem."""
    return np.asarray(pass_at_k(point.n, point.correct, k), dtype=np.float64)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
