"""How certain is a method's score? Problems are resampled, samples within a problem never are.

A score is a mean over seeds and problems, and over test sets ("strata") where there are several. Two
things could have come out differently: the training seeds and the problems. The model is

    score[seed, problem] = mean + problem effect + seed effect + interaction (with sampling noise)

so the variance of the mean is (problem)/P + (seed)/S + (interaction)/(S P). The variance of the problem
means estimates the first and the third term, the variance of the seed means the second and the third;
their sum counts the small third term twice. It is left in: the sum is never negative and errs on the
wide side (compare two-way clustering, Cameron, Gelbach and Miller 2011, without the subtracted term).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from harness.statistics.estimators import FloatArray

MIN_SEEDS = 3


@dataclass(frozen=True)
class Interval:
    """``kind`` says what ``[low, high]`` means.

    ``interval``: confidence interval over seeds and problems (:func:`score_interval`);
    ``range``: smallest and largest seed, no probability attached; ``problems``: over problems only,
    for a fixed policy such as the base model.
    """

    kind: Literal["interval", "range", "problems"]
    low: float
    high: float
    level: float | None = None
    df: float | None = None

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def _strata(problem_means: Sequence[ArrayLike]) -> list[FloatArray]:
    strata = [np.asarray(values, dtype=np.float64) for values in problem_means]
    if not strata or any(values.ndim != 1 or values.size == 0 for values in strata):
        raise ValueError("pass one non-empty [P] array per test set (average the seeds first)")
    return strata


def problem_variance(problem_means: Sequence[ArrayLike]) -> tuple[float, float]:
    """Variance of the average over test sets if the problems of each set were drawn again, and its df.

    The bootstrap over problems of a mean has a closed form, ``s^2 / P``; drawing would only add noise, so
    the closed form is used wherever a variance is all that is needed. ``problem_means``: one [P] array per
    test set, each problem already averaged over seeds.

    Returns:
        ``(variance, df)``; df by Welch-Satterthwaite over the sets. ``(nan, 0)`` when a set has 1 problem.
    """
    return problem_variances([values[None] for values in _strata(problem_means)])[0]


def problem_variances(problem_means: Sequence[FloatArray]) -> list[tuple[float, float]]:
    """:func:`problem_variance` of M rows; ``problem_means``: one [M, P] array per test set."""
    if any(values.shape[1] < 2 for values in problem_means):
        return [(float("nan"), 0.0)] * len(problem_means[0])
    sets = len(problem_means)
    parts = [(v.var(axis=1, ddof=1) / v.shape[1] / sets**2, float(v.shape[1] - 1)) for v in problem_means]
    columns = [[(variance, df) for variance in variances.tolist()] for variances, df in parts]
    return [combine_variances(own) for own in zip(*columns, strict=True)]


def combine_variances(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Sum of independent variance estimates ``(variance, df)`` with the Welch-Satterthwaite df."""
    total = sum(variance for variance, _ in parts)
    spread = sum(variance**2 / df for variance, df in parts)
    if spread == 0:  # nothing varies: the most careful df is the smallest
        return total, min(df for _, df in parts)
    return total, total**2 / spread


def bootstrap_interval(
    problem_means: Sequence[ArrayLike], *, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Percentile interval of the average over test sets, resampling whole problems within each set.

    Args:
        problem_means: one [P] array per test set (for several seeds: their mean per problem, so that a
            problem is drawn with all its samples and seeds).
        draws: bootstrap resamples; ``seed`` makes them reproducible.
        level: coverage, e.g. 0.95.
    """
    strata = _strata(problem_means)
    means = np.zeros(draws)
    for index, values in enumerate(strata):
        rng = np.random.default_rng([seed, index])
        times = rng.multinomial(values.size, np.full(values.size, 1 / values.size), size=draws)
        means += times @ values / values.size / len(strata)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval("problems", float(low), float(high), level)


def score_interval(
    seed_scores: ArrayLike,
    problem_means: Sequence[ArrayLike],
    seed_variance: float,
    seed_df: float,
    *,
    level: float = 0.95,
) -> Interval | None:
    """Interval for a method's expected score on new seeds and new problems of the same kind.

    ``mean +- t * sqrt(seed_variance / S + problem variance)``: trained again with fresh seeds and evaluated
    on fresh problems drawn like these, intervals made this way hold the method's expected score ``level`` of
    the time, or a little more. It describes the mean over seeds, not the spread of single runs.

    Args:
        seed_scores: [S] score of each seed.
        problem_means: one [P] array per test set, averaged over the same seeds.
        seed_variance: variance between seeds of one method, pooled over methods
            (:func:`harness.statistics.seed_noise`), with ``seed_df`` degrees of freedom.

    Returns:
        ``interval``; ``range`` of the seeds when there are fewer than three of them or nothing to pool;
        ``None`` without any seed.
    """
    scores = np.asarray(seed_scores, dtype=np.float64)
    if scores.size == 0:
        return None
    return interval_of(scores, problem_variance(problem_means), seed_variance, seed_df, level=level)


def interval_of(
    scores: FloatArray,
    over_problems: tuple[float, float],
    seed_variance: float,
    seed_df: float,
    *,
    level: float,
) -> Interval:
    """:func:`score_interval` where the variance over problems and its df are known already."""
    variance, df = over_problems
    if scores.size < MIN_SEEDS or seed_df < 1 or not isfinite(variance):
        return Interval("range", float(scores.min()), float(scores.max()))
    from scipy.special import stdtrit

    total, df = combine_variances([(seed_variance / scores.size, seed_df), (variance, df)])
    half = float(stdtrit(df, (1 + level) / 2)) * sqrt(total)
    middle = float(np.add.reduce(scores)) / scores.size
    return Interval("interval", max(0.0, middle - half), min(1.0, middle + half), level, df)
