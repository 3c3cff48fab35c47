"""How the rows of one table differ from the reference: intervals, differences, corrected p, pooled noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from harness.report.analysis.levels import ALPHA, LEVEL, POWER
from harness.report.analysis.scores import FloatArray, SetScores, mean_of_rows
from harness.report.data.groups import Group, method_key
from harness.statistics import (
    Interval,
    SeedNoise,
    detectable_difference,
    difference_intervals,
    difference_to_fixed,
    equal_spread_p,
    holm,
    interval_of,
    paired_differences,
    problem_variances,
    seed_noise,
)


@dataclass(frozen=True)
class Scored:
    """A group with its scores on the sets of one table; ``parts`` is empty unless it has all of them."""

    group: Group
    parts: tuple[SetScores, ...]

    @property
    def trained(self) -> bool:
        return bool(self.parts) and self.group.role != "base"

    @property
    def problem_means(self) -> list[FloatArray]:
        return [part.problem_P for part in self.parts]

    def allows(self, k: int) -> bool:
        """Whether every set has the samples for pass@k: twice as many."""
        return k == 1 or all(part.n >= 2 * k for part in self.parts)

    @cached_property
    def curve_SK(self) -> FloatArray:
        """pass@1..K per seed, averaged over the sets up to the K they all allow."""
        if len(self.parts) == 1:
            return self.parts[0].curve_SK
        width = min(part.curve_SK.shape[1] for part in self.parts)
        return mean_of_rows([part.curve_SK[:, :width] for part in self.parts])


@dataclass(frozen=True)
class Delta:
    """Difference in pass@k to the reference, its corrected p, and its uncorrected interval."""

    value: float
    p: float | None = None
    interval: tuple[float, float] | None = None


@dataclass
class MethodComparison:
    """Per row (:attr:`Group.key`): interval, difference to the reference, corrected p.

    ``detectable``: the true difference that the median row would be found with. ``spread_p``: Bartlett's p of
    equal seed variances over all trainings, which pooling them takes for granted.
    """

    intervals: dict[str, Interval | None] = field(default_factory=dict)
    deltas: dict[str, Delta] = field(default_factory=dict)
    detectable: float | None = None
    comparisons: int = 0
    spread_p: float | None = None


def join_groups(groups: Sequence[Group], per_set: Sequence[Sequence[SetScores | None]]) -> list[Scored]:
    """Each group with its scores on all sets, ``per_set[set][group]``."""
    joined = []
    for index, group in enumerate(groups):
        parts = [scores[index] for scores in per_set]
        known = tuple(part for part in parts if part is not None)
        joined.append(Scored(group, known if len(known) == len(parts) else ()))
    return joined


def seed_matrix(scored: Sequence[Scored], k: int = 1) -> FloatArray:
    """[M, S] pass@k of every run, nan where a method has no such seed."""
    seeds = sorted({seed for row in scored for seed in row.group.seeds})
    if all(row.group.seeds == tuple(seeds) for row in scored):
        return np.array([row.curve_SK[:, k - 1] for row in scored])
    column = {seed: index for index, seed in enumerate(seeds)}
    matrix = np.full((len(scored), len(seeds)), np.nan)
    for index, row in enumerate(scored):
        matrix[index, [column[seed] for seed in row.group.seeds]] = row.curve_SK[:, k - 1]
    return matrix


def stacked(scored: Sequence[Scored], k: int = 1) -> list[FloatArray]:
    """Per test set [M, P]: the problem means of all rows under each other."""
    per_row = [[part.problem_at(k) for part in row.parts] for row in scored]
    return [np.array(column) for column in zip(*per_row, strict=True)]


def own_trainings(trained: Sequence[Scored]) -> list[Scored]:
    """The rows whose runs are trainings of their own.

    Controls that only evaluate another row's training again would count its seeds twice.
    """
    return [row for row in trained if not row.group.evaluation_only] or list(trained)


def pooled_noise(trained: Sequence[Scored], k: int = 1) -> SeedNoise:
    """The seed variance of pass@k, pooled over the trainings."""
    return seed_noise(seed_matrix(own_trainings(trained), k))


def compare(scored: Sequence[Scored], reference: str, k: int = 1) -> MethodComparison:
    """Every row against the reference in pass@k; rows without the samples for it are left out.

    The untrained model has an interval of its difference and no p: it is no training, and counting it would
    make every other difference less certain.
    """
    result = MethodComparison()
    scored = [row for row in scored if row.parts and row.allows(k)]
    trained = [row for row in scored if row.trained]
    if not trained:
        return result
    matrix, means = seed_matrix(trained, k), stacked(trained, k)
    trainings = own_trainings(trained)
    own = matrix if len(trainings) == len(trained) else seed_matrix(trainings, k)
    noise, spread = seed_noise(own), equal_spread_p(own)
    result.spread_p = spread if np.isfinite(spread) else None
    if k == 1:
        for row, over_problems in zip(trained, problem_variances(means), strict=True):
            scores = row.curve_SK[:, 0]
            interval = interval_of(scores, over_problems, noise.variance, noise.df, level=LEVEL)
            result.intervals[row.group.key] = interval
    names = [row.group.key for row in trained]
    if method_key(reference) not in names:
        return result
    anchor = names.index(method_key(reference))
    for row in scored:
        if not row.trained:
            result.deltas[row.group.key] = _to_untrained(row, trained[anchor], noise, k)
    test = paired_differences(matrix, means, noise, against=[anchor])
    p = test.p[:, 0].copy()
    p[anchor] = np.nan
    low, high = (bound[:, 0] for bound in difference_intervals(test, level=LEVEL))
    for index, (name, corrected) in enumerate(zip(names, holm(p), strict=True)):
        if index != anchor and np.isfinite(test.difference[index, 0]):
            known = np.isfinite(corrected)
            result.deltas[name] = Delta(
                float(test.difference[index, 0]),
                float(corrected) if known else None,
                (float(low[index]), float(high[index])) if known else None,
            )
    result.detectable, result.comparisons = detectable_difference(test, anchor, alpha=ALPHA, power=POWER)
    return result


def _to_untrained(row: Scored, anchor: Scored, noise: SeedNoise, k: int) -> Delta:
    """The untrained model minus the reference."""
    scores_S = anchor.curve_SK[:, k - 1]
    means, fixed = ([part.problem_at(k) for part in one.parts] for one in (anchor, row))
    found = difference_to_fixed(scores_S, means, fixed, noise, level=LEVEL)
    value = float(row.curve_SK[:, k - 1].mean() - scores_S.mean())
    return Delta(value, interval=(-found[1], -found[0]) if found else None)
