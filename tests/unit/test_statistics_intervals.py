"""Intervals, corrections and ranks: coverage by simulation, formulas by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.statistics import (
    bootstrap_interval,
    detectable_difference,
    difference_intervals,
    difference_to_fixed,
    equal_spread_p,
    holm,
    paired_differences,
    problem_variance,
    score_interval,
    seed_noise,
    shared_ranks,
    smallest_detectable_difference,
)

SEEDS, METHODS = 3, 6


def _world(rng: np.random.Generator, problems: int, seed_sd: float) -> np.ndarray:
    """[M, S, P] scores around 0.5; half of the seed variance is common to all methods."""
    shape = (METHODS, SEEDS, problems)
    return (
        0.5
        + 0.3 * rng.standard_normal((1, 1, problems))
        + 0.1 * rng.standard_normal((METHODS, 1, problems))
        + seed_sd * rng.standard_normal((METHODS, SEEDS, 1)) / 2**0.5
        + seed_sd * rng.standard_normal((1, SEEDS, 1)) / 2**0.5
        + 0.2 * rng.standard_normal(shape)
    )


@pytest.mark.parametrize(("problems", "seed_sd"), [(40, 0.0), (120, 0.03), (300, 0.06)])
def test_combined_interval_covers_the_expected_score(problems: int, seed_sd: float) -> None:
    rng = np.random.default_rng(problems)
    hits = []
    for _ in range(500):
        world = _world(rng, problems, seed_sd)
        scores = world.mean(axis=2)
        noise = seed_noise(scores)
        interval = score_interval(scores[0], [world[0].mean(axis=0)], noise.variance, noise.df)
        assert interval is not None and interval.kind == "interval"
        hits.append(interval.low <= 0.5 <= interval.high)
    assert 0.925 <= np.mean(hits) <= 0.995


@pytest.mark.parametrize(("problems", "seed_sd"), [(60, 0.0), (200, 0.05)])
def test_paired_test_keeps_its_level_and_finds_real_differences(problems: int, seed_sd: float) -> None:
    rng = np.random.default_rng(7)
    false, found, covered = [], [], []
    for _ in range(400):
        world = _world(rng, problems, seed_sd)
        world[2] += 0.25
        scores = world.mean(axis=2)
        test = paired_differences(scores, [world.mean(axis=1)], seed_noise(scores), against=[0])
        false.append(test.p[1, 0] < 0.05)
        found.append(test.p[2, 0] < 0.05)
        low, high = difference_intervals(test)
        covered.append(low[2, 0] <= 0.25 <= high[2, 0])
        apart = (low > 0) | (high < 0)
        assert np.array_equal(apart, test.p < 0.05)  # an interval without 0 is an uncorrected p under 5 %
    assert 0.93 <= np.mean(covered)
    assert np.mean(false) <= 0.07
    assert np.mean(found) > 0.9


def test_paired_noise_of_two_methods_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((2, 5))
    constant = [np.tile([0.4, 0.6], (2, 1))]  # no problem variance in the difference
    test = paired_differences(scores, constant, seed_noise(scores))
    expected = stats.ttest_rel(scores[0], scores[1])
    assert test.p[0, 1] == pytest.approx(expected.pvalue)
    assert test.difference[0, 1] == pytest.approx((scores[0] - scores[1]).mean())
    assert test.p[0, 0] == 1.0
    low, high = difference_intervals(test, level=0.9)
    told = expected.confidence_interval(0.9)
    assert (low[0, 1], high[0, 1]) == pytest.approx((told.low, told.high))


def test_seed_noise_by_hand_and_with_missing_runs() -> None:
    scores = np.array([[0.1, 0.2, 0.3], [0.5, 0.7, np.nan], [0.4, np.nan, np.nan]])
    noise = seed_noise(scores)
    assert noise.variance == pytest.approx((0.01 + 0.01 + 0.01 + 0.01) / 3)
    design = np.zeros((6, 6))
    rows = [(m, s) for m in range(3) for s in range(3) if np.isfinite(scores[m, s])]
    for row, (m, s) in enumerate(rows):
        design[row, m] = design[row, 3 + s] = 1
    y = np.array([scores[m, s] for m, s in rows])
    fit, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    assert noise.paired_df == 6 - rank
    assert noise.paired_variance == pytest.approx(((y - design @ fit) ** 2).sum() / (6 - rank))
    assert np.isnan(seed_noise([[0.5]]).variance) and seed_noise([[0.5]]).df == 0


def test_degrees_of_freedom_of_seed_noise() -> None:
    rng = np.random.default_rng(5)
    own, common = rng.standard_normal((45, 3)), rng.standard_normal((1, 3))
    assert seed_noise(own[:1]).df == 2, "one method: its seeds less one"
    assert seed_noise(np.tile(common, (45, 1))).df == pytest.approx(2), "44 copies add nothing"
    assert seed_noise(np.full((4, 3), 0.5)).df == 8, "nothing varies: the plain count"
    assert 80 < np.median([seed_noise(rng.standard_normal((45, 3))).df for _ in range(99)]) <= 90
    # by hand: squares of seed means and of what is left, each with its degrees of freedom
    scores = 0.3 * own + common
    inner = scores - scores.mean(axis=1, keepdims=True)
    seeds = 45 * (inner.mean(axis=0) ** 2).sum()
    left = (inner**2).sum() - seeds
    assert seed_noise(scores).df == pytest.approx((seeds + left) ** 2 / (seeds**2 / 2 + left**2 / 88))


@pytest.mark.parametrize(("methods", "common"), [(6, 0.5), (20, 0.5), (20, 1.0), (45, 0.25)])
def test_the_interval_holds_the_score_where_a_seed_moves_all_methods_alike(
    methods: int, common: float
) -> None:
    """With the plain sum of (seeds - 1) for df, 20 methods with all in common would cover .911."""
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(2000):
        luck = (1 - common) ** 0.5 * rng.standard_normal((methods, 3)) + common**0.5 * rng.standard_normal(
            (1, 3)
        )
        problems_P = (
            rng.standard_normal(100) * 100**0.5 * 0.4
        )  # its mean varies about as much as that of seeds
        scores = 0.5 + 0.01 * (luck + problems_P.mean())
        noise = seed_noise(scores)
        means_P = 0.5 + 0.01 * (luck[0].mean() + problems_P)
        interval = score_interval(scores[0], [means_P], noise.variance, noise.df)
        assert interval is not None
        hits.append(interval.low <= 0.5 <= interval.high)
    assert 0.935 <= np.mean(hits) <= 0.965


def test_only_common_seeds_are_compared() -> None:
    scores = np.array([[0.9, 0.5, 0.5, 0.5], [np.nan, 0.4, 0.4, 0.4], [np.nan, np.nan, 0.4, 0.4]])
    means = [np.random.default_rng(1).random((3, 20))]
    test = paired_differences(scores, means, seed_noise(scores))
    assert test.difference[0, 1] == pytest.approx(0.1)  # the 0.9 has no partner
    assert np.isfinite(test.p[0, 1]) and np.isnan(test.p[0, 2])  # two seeds in common are too few
    low, high = difference_intervals(test)
    assert np.isfinite(low[0, 1]) and np.isnan(low[0, 2]) and np.isnan(high[0, 2])


def test_equal_spread_is_bartletts_test_and_keeps_its_level() -> None:
    rng = np.random.default_rng(11)
    scores = rng.standard_normal((12, 3))
    scores[0, 2], scores[1, 1:] = np.nan, np.nan
    usable = [row[np.isfinite(row)] for row in scores if np.isfinite(row).sum() > 1]
    assert equal_spread_p(scores) == pytest.approx(stats.bartlett(*usable).pvalue)
    alike = np.array([equal_spread_p(rng.standard_normal((37, 3))) for _ in range(1000)])
    assert np.mean(alike < 0.05) == pytest.approx(0.05, abs=0.02)
    scale = np.where(np.arange(37) < 15, 0.3, 1.0)[:, None]
    assert np.mean([equal_spread_p(scale * rng.standard_normal((37, 3))) < 0.05 for _ in range(200)]) > 0.7
    assert np.isnan(equal_spread_p([[0.1, 0.2, 0.3]])) and np.isnan(equal_spread_p([[0.1, 0.2], [0.1, 0.1]]))


def test_the_interval_to_a_fixed_policy_holds_the_true_difference() -> None:
    rng = np.random.default_rng(12)
    hits = []
    for _ in range(400):
        fixed_P = rng.beta(1.0, 3.0, size=80)
        seeds = 0.2 + 0.05 * rng.standard_normal((8, 3))  # eight methods that pool their noise
        means_P = fixed_P + 0.2 + 0.1 * rng.standard_normal(80) + (seeds[0].mean() - 0.2)
        found = difference_to_fixed(seeds[0], [means_P], [fixed_P], seed_noise(seeds))
        assert found is not None
        hits.append(found[0] <= 0.2 <= found[1])
    assert np.mean(hits) == pytest.approx(0.95, abs=0.035)
    assert difference_to_fixed([0.1, 0.2], [[0.1, 0.2]], [[0.0, 0.1]], seed_noise(seeds)) is None


def test_bootstrap_agrees_with_the_closed_form_and_is_deterministic() -> None:
    rng = np.random.default_rng(5)
    strata = [rng.random(80), rng.random(150)]
    interval = bootstrap_interval(strata, draws=4000)
    assert interval == bootstrap_interval(strata, draws=4000)
    assert interval != bootstrap_interval(strata, draws=4000, seed=1)
    variance, df = problem_variance(strata)
    assert interval.half_width == pytest.approx(1.96 * variance**0.5, rel=0.06)
    assert 100 < df < 229


def test_bootstrap_covers_clustered_data() -> None:
    rng = np.random.default_rng(6)
    hits = []
    for _ in range(300):
        rates = rng.beta(0.5, 0.5, size=80)  # strongly clustered: 16 samples of a problem are no 16 problems
        interval = bootstrap_interval([rng.binomial(16, rates) / 16], draws=500)
        hits.append(interval.low <= 0.5 <= interval.high)
    assert 0.91 <= np.mean(hits) <= 0.98


def test_few_seeds_give_a_range_not_an_interval() -> None:
    few = score_interval([0.4, 0.6], [[0.1, 0.9]], 0.01, 20)
    assert few is not None and (few.kind, few.low, few.high, few.level) == ("range", 0.4, 0.6, None)
    alone = score_interval([0.4, 0.5, 0.6], [[0.5]], 0.01, 20)
    assert alone is not None and alone.kind == "range"  # one problem: no variance over problems
    assert score_interval([], [[0.5]], 0.01, 20) is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    with_gap = holm([0.02, np.nan, 0.01])
    assert with_gap[[0, 2]] == pytest.approx([0.02, 0.02]) and np.isnan(with_gap[1])
    assert holm([]).shape == (0,)


def test_the_detectable_difference_is_the_median_row_s_at_holms_first_step() -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(0.5, 0.01, (5, 3))
    scores[4, 1:] = np.nan  # one seed: not tested
    means = [rng.random((5, 40)) * np.array([1, 1, 2, 3, 1])[:, None]]
    test = paired_differences(scores, means, seed_noise(scores), against=[1])
    found, count = detectable_difference(test, 1)
    rows = [0, 2, 3]
    error, df = (np.median(values[rows, 0]) for values in (test.standard_error, test.df))
    assert count == 3 and found == smallest_detectable_difference(error, df, alpha=0.05 / 3)
    nothing = paired_differences(scores[:, :2], means, seed_noise(scores[:, :2]), against=[1])
    assert detectable_difference(nothing, 1) == (None, 0)


def test_smallest_detectable_difference_has_the_stated_power() -> None:
    size = smallest_detectable_difference(0.02, 1e6)
    assert size == pytest.approx(0.02 * (1.95996 + 0.84162), rel=1e-4)
    assert smallest_detectable_difference(0.02, 4, alpha=0.01) > size


def test_shared_ranks() -> None:
    scores = [0.9, 0.8, 0.5, 0.45, 0.1]
    p = np.full((5, 5), 0.5)
    for a, b in [(0, 2), (0, 3), (0, 4), (1, 3), (1, 4), (2, 4), (3, 4)]:
        p[a, b] = p[b, a] = 0.01
    assert shared_ranks(scores, p).tolist() == [[1, 2], [1, 3], [2, 4], [3, 4], [5, 5]]
    assert shared_ranks([0.5, 0.5], np.full((2, 2), np.nan)).tolist() == [[1, 2], [1, 2]]
    noisy = np.full((3, 3), 0.5)
    noisy[0, 1] = noisy[1, 0] = 0.01  # middle is told apart from the best, the last is not
    assert shared_ranks([0.9, 0.8, 0.7], noisy).tolist() == [[1, 2], [1, 3], [1, 3]]
    assert shared_ranks([], np.zeros((0, 0))).shape == (0, 2)


def test_what_cannot_be_told_apart_shares_a_place() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        scores = rng.random(8)
        gaps = np.abs(scores[:, None] - scores[None, :])
        p = np.where(gaps > 0.3, 0.01, 0.5)
        places = shared_ranks(scores, p)
        overlap = np.maximum(places[:, None, 0], places[None, :, 0]) <= np.minimum(
            places[:, None, 1], places[None, :, 1]
        )
        assert np.all(overlap | (p < 0.05))
