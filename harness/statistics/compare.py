"""How certain is a difference between two methods? Paired by problem and by seed, Holm-corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import TYPE_CHECKING

import numpy as np

from harness.statistics.intervals import MIN_SEEDS, combine_variances, problem_variances

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from harness.statistics.estimators import FloatArray


@dataclass(frozen=True)
class SeedNoise:
    """Variance of a run's score between seeds of one method, pooled over methods.

    ``paired_variance`` is what is left of ``variance`` after also taking out what a seed does to every method
    alike (initial noise, order of the problems): the noise of a comparison on common seeds. With two methods
    it is exactly that of the paired t-test. Nan where df is 0.

    ``df`` is that of ``variance`` as the sum of the two (Satterthwaite 1946, two-way random effects): nearly
    the sum of (seeds - 1) where every run's luck is its own, and down to (seeds - 1) where a seed moves all
    methods alike, because then further methods say nothing new about seeds.
    """

    variance: float
    df: float
    paired_variance: float
    paired_df: int


def seed_noise(scores_MS: ArrayLike) -> SeedNoise:
    """Pool the seed variance over methods.

    Pooling assumes that methods vary alike from seed to seed; three seeds of one method say too little
    to do without that assumption.

    Args:
        scores_MS: [M, S] score of every method at every seed, nan where the run is missing.
    """
    scores = np.atleast_2d(np.asarray(scores_MS, dtype=np.float64))
    known = np.isfinite(scores)
    count_M = known.sum(axis=1)
    filled = np.where(known, scores, 0.0)
    mean_M = filled.sum(axis=1) / np.maximum(count_M, 1)
    inner = np.where(known, scores - mean_M[:, None], 0.0)
    df = int(np.maximum(count_M - 1, 0).sum())
    squares = float((inner**2).sum())
    # Seed effects by least squares, methods already projected out: an S x S system whatever M is.
    seen = known.astype(np.float64)
    gram = np.diag(seen.sum(axis=0)) - seen.T @ (seen / np.maximum(count_M, 1)[:, None])
    right_side = inner.sum(axis=0)
    # its eigenvalues are 0, one for each set of seeds that share methods, or near the number of methods
    effect_S = np.linalg.pinv(gram, rcond=1e-9, hermitian=True) @ right_side
    paired_df = df - int(np.linalg.matrix_rank(gram, tol=1e-9 * len(scores), hermitian=True))
    paired_squares = max(0.0, squares - float(effect_S @ right_side))
    parts = [(squares - paired_squares, df - paired_df), (paired_squares, paired_df)]
    # the variance is their sum over df, a constant that does not matter here
    effective_df = combine_variances([part for part in parts if part[1] > 0])[1] if squares > 0 else float(df)
    nan = float("nan")
    return SeedNoise(
        squares / df if df > 0 else nan,
        effective_df,
        paired_squares / paired_df if paired_df > 0 else nan,
        max(paired_df, 0),
    )


def equal_spread_p(scores_MS: ArrayLike) -> float:
    """Bartlett's test of what :func:`seed_noise` assumes: that every method varies alike from seed to seed.

    Made for normal scores, and for as few as three seeds better than Levene's, which medians of three blunt.

    Args:
        scores_MS: [M, S] scores, nan where the run is missing; rows with fewer than two seeds are left out.

    Returns:
        p; nan with fewer than two usable rows, or where the seeds of one do not vary at all.
    """
    scores = np.atleast_2d(np.asarray(scores_MS, dtype=np.float64))
    known = np.isfinite(scores)
    if known.all() and scores.shape[1] >= 2:
        variance_M, df_M = scores.var(axis=1, ddof=1), np.full(len(scores), scores.shape[1] - 1.0)
    else:
        rows = [row[there] for row, there in zip(scores, known, strict=True) if there.sum() >= 2]
        variance_M = np.array([row.var(ddof=1) for row in rows])
        df_M = np.array([row.size - 1.0 for row in rows])
    if len(df_M) < 2 or not np.all(variance_M > 0):
        return float("nan")
    from scipy.special import chdtrc

    df = df_M.sum()
    pooled = float(df_M @ variance_M) / df
    statistic = df * np.log(pooled) - float(df_M @ np.log(variance_M))
    correction = 1 + ((1 / df_M).sum() - 1 / df) / (3 * (len(df_M) - 1))
    return float(chdtrc(len(df_M) - 1, max(0.0, statistic / correction)))


def difference_to_fixed(
    seed_scores: ArrayLike,
    problem_means: Sequence[ArrayLike],
    fixed_means: Sequence[ArrayLike],
    noise: SeedNoise,
    *,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Interval of a trained method's score minus that of a fixed policy, which has problems and no seeds.

    As :func:`harness.statistics.score_interval`, with the problems paired.

    Args:
        seed_scores: [S] score of each seed.
        problem_means: per test set [P], averaged over the same seeds.
        fixed_means: per test set [P], of the fixed policy on the same problems.

    Returns:
        ``(low, high)``; None with fewer than three seeds, nothing to pool, or one problem in a set.
    """
    apart = [np.asarray(a) - np.asarray(b) for a, b in zip(problem_means, fixed_means, strict=True)]
    return differences_to_fixed([np.size(seed_scores)], [part[None] for part in apart], noise, level=level)[0]


def differences_to_fixed(
    seeds_M: Sequence[int], apart: Sequence[FloatArray], noise: SeedNoise, *, level: float = 0.95
) -> list[tuple[float, float] | None]:
    """:func:`difference_to_fixed` of M methods.

    Args:
        seeds_M: how many seeds each has.
        apart: per test set [M, P], the method minus the fixed policy, averaged over the seeds.
    """
    from scipy.special import stdtrit

    over_problems = problem_variances(apart)
    middle_M = np.mean([part.mean(axis=1) for part in apart], axis=0).tolist()
    found: list[tuple[float, float] | None] = []
    for seeds, (variance, df), middle in zip(seeds_M, over_problems, middle_M, strict=True):
        if seeds < MIN_SEEDS or noise.df < 1 or not isfinite(variance):
            found.append(None)
            continue
        total, df = combine_variances([(noise.variance / seeds, noise.df), (variance, df)])
        half = float(stdtrit(df, (1 + level) / 2)) * sqrt(total)
        found.append((middle - half, middle + half))
    return found


@dataclass(frozen=True)
class PairedDifferences:
    """[M, J] arrays: row minus column; ``p`` two-sided and uncorrected, nan where it cannot be had."""

    difference: FloatArray
    standard_error: FloatArray
    df: FloatArray
    p: FloatArray


def paired_differences(
    scores_MS: ArrayLike,
    problem_means: Sequence[ArrayLike],
    noise: SeedNoise,
    against: Sequence[int] | None = None,
) -> PairedDifferences:
    """Differences between methods over the seeds they have in common, on the same problems.

    The variance adds the pooled seed noise of a comparison, ``2 * paired_variance / seeds in common``, and
    the variance over problems of the per-problem difference; df by Welch-Satterthwaite. A p-value needs
    three seeds in common and two problems per test set.

    Args:
        scores_MS: [M, S] scores, nan where the run is missing.
        problem_means: per test set [M, P], averaged over each method's seeds.
        noise: from :func:`seed_noise`.
        against: the columns J wanted (e.g. the reference alone); default all M.
    """
    scores = np.atleast_2d(np.asarray(scores_MS, dtype=np.float64))
    columns = np.arange(len(scores)) if against is None else np.asarray(against, dtype=np.int64)
    seen = np.isfinite(scores).astype(np.float64)
    filled = np.nan_to_num(scores)
    common = seen @ seen[columns].T
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = (filled @ seen[columns].T - seen @ filled[columns].T) / common
        seed_part = 2 * noise.paired_variance / common
        variance = seed_part.copy()
        spread = seed_part**2 / noise.paired_df if noise.paired_df else np.full_like(seed_part, np.nan)
        for means in problem_means:
            values = np.asarray(means, dtype=np.float64)
            problems = values.shape[1]
            inner = values - values.mean(axis=1, keepdims=True)
            own = (inner**2).sum(axis=1)
            squares = own[:, None] + own[columns][None, :] - 2 * inner @ inner[columns].T
            part = np.maximum(squares, 0.0) / (problems - 1) / problems / len(problem_means) ** 2
            variance += part
            spread += part**2 / (problems - 1)
        standard_error = np.sqrt(variance)
        df = np.where(spread > 0, variance**2 / spread, float(noise.paired_df))
        t = np.where(difference == 0, 0.0, np.abs(difference) / standard_error)
    from scipy.special import stdtr

    p = np.minimum(1.0, 2 * stdtr(np.where(df > 0, df, np.nan), -t))
    p = np.where((common >= MIN_SEEDS) & np.isfinite(standard_error), p, np.nan)
    return PairedDifferences(difference, standard_error, df, p)


def difference_intervals(test: PairedDifferences, *, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """[M, J] low and high ends of each difference's own interval, by Student t and not corrected.

    One such interval holds its true difference ``level`` of the time. Over many rows some will miss, so
    whether a row differs at all is for Holm's p to say. Nan where there is no p.
    """
    from scipy.special import stdtrit

    known = np.isfinite(test.p)
    half = stdtrit(np.where(known, test.df, np.nan), (1 + level) / 2) * test.standard_error
    return test.difference - half, test.difference + half


def holm(p: ArrayLike) -> FloatArray:
    """Holm's step-down corrected p-values (Holm 1979), same shape; nan entries stay out of the family."""
    values = np.asarray(p, dtype=np.float64)
    flat = values.ravel()
    order = np.argsort(flat, kind="stable")
    order = order[np.isfinite(flat[order])]
    steps = np.arange(order.size, 0, -1)
    corrected = np.full(flat.shape, np.nan)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps * flat[order]))
    return corrected.reshape(values.shape)


def smallest_detectable_difference(
    standard_error: float, df: float, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The true difference that a two-sided test at ``alpha`` would find with probability ``power``.

    ``(t[1 - alpha/2] + t[power]) * standard_error`` in the unit of the score; pass ``alpha / m`` for the
    first step of Holm's correction over ``m`` comparisons.
    """
    from scipy.special import stdtrit

    return float(stdtrit(df, 1 - alpha / 2) + stdtrit(df, power)) * standard_error


def detectable_difference(
    test: PairedDifferences, anchor: int, *, alpha: float = 0.05, power: float = 0.8
) -> tuple[float | None, int]:
    """The true difference to ``anchor`` that the median tested row would be found with, and their number.

    By :func:`smallest_detectable_difference` at the first step of Holm's correction over them.

    Args:
        test: against ``anchor`` alone, in its first column.

    Returns:
        None where nothing is tested.
    """
    tested = np.isfinite(test.p[:, 0])
    tested[anchor] = False
    count = int(tested.sum())
    if not count:
        return None, 0
    error, df = (float(np.median(values[tested, 0])) for values in (test.standard_error, test.df))
    return smallest_detectable_difference(error, df, alpha=alpha / count, power=power), count


def shared_ranks(scores: ArrayLike, p: ArrayLike, *, alpha: float = 0.05) -> NDArray[np.int64]:
    """First and last place that each method may hold: ``1 + better`` to ``M - worse``.

    ``better`` and ``worse`` count the methods told apart from it (p < ``alpha``). Methods that cannot be told
    apart share at least one place. A single shared number could not promise that, because "cannot be
    told apart" is not transitive. With p-values corrected over all pairs, all true ranks lie in their ranges
    at once with probability ``1 - alpha`` (Mogstad, Romano, Shaikh and Wilhelm 2024, "Inference for ranks").
    A higher score never gets a later place: where pair-wise noise would say so, both ranges are widened.

    Args:
        scores: [M].
        p: [M, M] symmetric corrected p-values; nan counts as "cannot be told apart".

    Returns:
        [M, 2] int64 places from 1.
    """
    values = np.asarray(scores, dtype=np.float64)
    apart = np.nan_to_num(np.asarray(p, dtype=np.float64), nan=1.0) < alpha
    above = values[None, :] > values[:, None]
    first = 1 + (apart & above).sum(axis=1)
    last = len(values) - (apart & above.T).sum(axis=1)
    first = np.where(~above, first[None, :], len(values) + 1).min(axis=1, initial=len(values) + 1)
    last = np.where(~above.T, last[None, :], 0).max(axis=1, initial=0)
    return np.stack([first, last], axis=1).astype(np.int64)
