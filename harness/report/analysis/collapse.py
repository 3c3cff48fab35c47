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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from harness.report.analysis.checkpoints import (
    checkpoints,
    even_steps,
    frontier_curves,
    frontier_k,
    frontier_scores,
)
from harness.report.analysis.entropy import late
from harness.report.analysis.scores import Curve, FloatArray, entropy_at, mean, mean_of
from harness.report.data.groups import Group
from harness.statistics import differences_to_fixed, pass_at_k, seed_noise
from harness.util.batches import kind_by_kind

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
        step: where the mean over seeds is highest; the earliest of equal ones.
        lost: mean over seeds.
    """

    curve: Curve
    lost_S: FloatArray
    lost_P: FloatArray | None
    step: float
    lost: float


def collapses(groups: Sequence[Group]) -> dict[str, dict[str, float | None]]:
    """Numbers of every row with a training of its own, by :attr:`Group.key`; empty without checkpoints."""
    k = frontier_k(groups)
    trained = [group for group in groups if group.role != "base" and not group.evaluation_only]
    if k is None:
        return {}
    kinds = kind_by_kind(trained, lambda group: _size(group, k), lambda size, own: _courses(size, own, k))
    known = {group.key: pair for group, pair in zip(trained, kinds, strict=True) if pair is not None}
    ends = [_ends([pair[place] for pair in known.values()]) for place in (0, 1)]
    found: dict[str, dict[str, float | None]] = {}
    for group in trained:
        numbers = _of_training(group)
        if group.key in known:
            one, many = known[group.key]
            numbers |= _falls(group, one, many, k)
            for name, own, spans in (("lost_pass_1", one, ends[0]), ("lost_pass_k", many, ends[1])):
                low, high = spans.get(id(own)) or (None, None)
                numbers |= {name: own.lost, f"{name}_low": low, f"{name}_high": high}
        if any(number is not None for number in numbers.values()):
            found[group.key] = dict.fromkeys(COLLAPSE) | numbers
    return found


def _size(group: Group, k: int) -> tuple[int, ...] | None:
    """Samples, seeds, checkpoints and problems of a group whose runs have the same checkpoints; else None."""
    steps = even_steps(group)
    if steps is None or len(steps) < 2 or (own := checkpoints(group)[0]).n < 2 * k:
        return None
    return own.n, len(group.records), len(steps), own.counts_NP.shape[1]


def _courses(
    size: tuple[int, ...] | None, groups: Sequence[Group], k: int
) -> list[tuple[Course, Course] | None]:
    """In pass@1 and pass@``k``; of groups of one size at once, as a call for each takes far longer."""
    if size is None:
        pairs = [(course(group, 1, k), course(group, k, k)) for group in groups]
        return [(one, many) if one and many else None for one, many in pairs]
    n, *shape = size
    counts_GSTP = np.array([checkpoints(group)[0].counts_NP for group in groups]).reshape(-1, *shape)
    curves = [pair for group in groups if (pair := frontier_curves(group, k))]
    ones, manies = ([pair[at] for pair in curves] for at in (0, 1))
    return [*zip(_even(ones, n, counts_GSTP, 1), _even(manies, n, counts_GSTP, k), strict=True)]


def _even(curves: Sequence[Curve], n: int, counts_GSTP: NDArray[np.int64], k: int) -> list[Course]:
    """:func:`course` of groups that have all checkpoints in common, each its own steps."""
    values_GST = np.array([curve.values_ST for curve in curves])
    best_GS = _maxima(values_GST)
    lost_GS = np.take_along_axis(values_GST, best_GS[..., None], axis=-1)[..., 0] - values_GST[..., -1]
    counts_GSP = np.take_along_axis(counts_GSTP, best_GS[..., None, None], axis=2)[:, :, 0]
    lost_GP = (pass_at_k(n, counts_GSP, k) - pass_at_k(n, counts_GSTP[:, :, -1], k)).mean(axis=1)
    highest_G = values_GST.mean(axis=1).argmax(axis=1).tolist()
    return [
        Course(curve, lost_S, lost_P, float(curve.steps_T[highest]), lost)
        for curve, lost_S, lost_P, highest, lost in zip(
            curves, lost_GS, lost_GP, highest_G, lost_GS.mean(axis=1).tolist(), strict=True
        )
    ]


def course(group: Group, k: int, least: int) -> Course | None:
    """pass@``k`` over training; None unless every seed has checkpoints of at least ``2 * least`` samples.

    Args:
        k: 1 or ``least``.
    """
    curves = frontier_curves(group, least)
    if curves is None or len(curves[0].steps_T) < 2:
        return None
    curve = curves[0 if k == 1 else 1]
    values_ST = curve.values_ST
    best_S = _maxima(values_ST)
    ends = [max(scores) for scores, _ in frontier_scores(group, least)]
    last = len(curve.steps_T) - 1
    steps = [end if at == last else int(curve.steps_T[at]) for at, end in zip(best_S, ends, strict=True)]
    lost_S = values_ST[np.arange(len(best_S)), best_S] - values_ST[:, -1]
    step = float(curve.steps_T[int(np.argmax(values_ST.mean(axis=0)))])
    return Course(curve, lost_S, _lost_problems(group, k, steps, ends), step, float(lost_S.mean()))


def _lost_problems(group: Group, k: int, steps: Sequence[int], ends: Sequence[int]) -> FloatArray | None:
    """[P] pass@``k`` of every problem at each seed's step minus at its end, mean over the seeds."""
    wanted = {*enumerate(steps), *enumerate(ends)}
    each: dict[tuple[int, int], FloatArray] = {}
    for own in checkpoints(group):
        places = [place for place in wanted if place in own.row_of]
        if places:
            rows = own.counts_NP[[own.row_of[place] for place in places]]
            each |= zip(places, pass_at_k(own.n, rows, k), strict=True)
    if len({len(problem_P) for problem_P in each.values()}) != 1:
        return None
    pairs = zip(enumerate(steps), enumerate(ends), strict=True)
    return np.asarray(np.mean([each[at] - each[end] for at, end in pairs], axis=0))


def below_from(scores: Mapping[int, float]) -> float | None:
    """The step from which on pass@k, by step, stays below the untrained model's; None where it does not."""
    values = sorted(scores.items())
    if len(values) < 2 or values[0][0] != 0 or values[-1][1] >= values[0][1]:
        return None
    base = values[0][1]
    last = max(i for i, (_, value) in enumerate(values) if value >= base)
    (step_a, a), (step_b, b) = values[last : last + 2]
    return step_a + (a - base) / (a - b) * (step_b - step_a)


def _maxima(values_ST: FloatArray) -> NDArray[np.int64]:
    """Of each seed, where the other seeds are highest on average; its own maximum where there is no other.

    Args:
        values_ST: [..., S, T].
    """
    seeds = values_ST.shape[-2]
    if seeds > 1:
        values_ST = values_ST[..., _others(seeds), :].mean(axis=-2)
    return np.asarray(values_ST.argmax(axis=-1))


@lru_cache
def _others(seeds: int) -> NDArray[np.int64]:
    """[S, S - 1] of each seed, the places of the others."""
    return np.array([[other for other in range(seeds) if other != seed] for seed in range(seeds)])


def _ends(courses: Sequence[Course | None]) -> dict[int, tuple[float, float]]:
    """95 % intervals of what is lost, over fresh seeds and problems, by the identity of the course.

    The seeds' noise is pooled over rows, as for the scores.
    """
    known = [own for own in courses if own is not None]
    width = max((len(own.lost_S) for own in known), default=0)
    matrix = np.full((len(known), width), np.nan)
    for row, own in enumerate(known):
        matrix[row, : len(own.lost_S)] = own.lost_S
    apart = [(id(own), len(own.lost_S), own.lost_P) for own in known if own.lost_P is not None]
    if not apart:
        return {}
    noise = seed_noise(matrix)

    def of(_: int, lost: Sequence[tuple[int, int, FloatArray]]) -> list[tuple[float, float] | None]:
        return differences_to_fixed([n for _, n, _ in lost], [np.array([own for *_, own in lost])], noise)

    ends = kind_by_kind(apart, lambda own: len(own[2]), of)
    return {own[0]: pair for own, pair in zip(apart, ends, strict=True) if pair is not None}


def _falls(group: Group, one: Course, many: Course, k: int) -> dict[str, float | None]:
    steps = even_steps(group)
    if steps is None:
        below = [below_from(scores) for _, scores in frontier_scores(group, k)]
    else:
        below = [below_from(dict(zip(steps, own, strict=True))) for own in many.curve.values_ST.tolist()]
    there = [(probed, at) for probed, at in zip(group.probes, below, strict=True) if at is not None]
    # the checkpoint of each seed at a step of the row's curve, whose last is each seed's own end
    step, ends = many.step, [max(p.step for p in record.frontier if p.correct) for record in group.records]
    rise = ends if step == many.curve.steps_T[-1] else [int(step)] * len(ends)
    return {
        "rise_step": one.step,
        "rise_k_step": step,
        "below_share": len(there) / len(below),
        "below_step": mean([at for _, at in there]) if there else None,
        "entropy_at_rise": _mean([*map(entropy_at, group.probes, rise)]),
        "entropy_at_below": _mean([entropy_at(probed, at) for probed, at in there]),
        "distinct_right_rise": _distinct(group, rise),
        "distinct_right_end": _distinct(group, ends),
    }


def _of_training(group: Group) -> dict[str, float | None]:
    return {
        "equal_groups": late(group, "equal_groups"),
        "above_target": mean_of(group.records, attrgetter("above_target")),
    }


def _distinct(group: Group, steps: Sequence[int]) -> float | None:
    """Different right answers of a problem, at each seed's step."""
    counts = [
        {p.step: p.distinct_correct for p in record.frontier if p.distinct_correct}
        for record in group.records
    ]
    known = [own[step] for own, step in zip(counts, steps, strict=True) if step in own]
    return _mean([sum(own) / len(own) for own in known]) if len(known) == len(steps) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known and len(known) == len(values) else None
