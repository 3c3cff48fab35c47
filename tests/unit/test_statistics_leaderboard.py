"""What the leaderboard prints, against worlds whose true scores are known: coverage, errors, power, ranks.

Whole reports are built from records' counts. In a world every problem of a set has a rate from a beta
distribution, every method moves it in its own way, every seed moves a method on all problems and on each, and
64 samples are drawn by that rate: beta-binomial counts, bounded, with many problems near 0 and 1. Every step
has the mean of the step before, so a method's expected score on fresh seeds and problems is known exactly.

Limits are three standard errors, of a share over that many reports, from what is promised. The seeds are
fixed: the tests always say the same, and a statistic that breaks its promise by more than that fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from harness.report.analysis.levels import ALPHA, LEVEL, POWER
from harness.report.analysis.model import Line, Report, Table
from harness.report.tables.build import build_report
from harness.statistics import seed_noise
from tests.helpers.records import typed

METHODS, SEEDS, SAMPLES, REPORTS = 6, 3, 64, 150
#: Set -> its problems, and the beta distribution of their rates before training.
SETS = {"test_id": (60, 0.9, 0.9), "test_hard": (40, 0.4, 1.6), "test_ood": (50, 0.7, 1.1)}
#: Standard deviation of a seed's move of a method on all problems (at rate 1/2), a quarter of its variance
#: common to all methods; how closely the rates of a method, and of a seed of it, follow those they come from.
SEED_SD, METHOD_FIT, SEED_FIT = 0.08, 25.0, 60.0

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


def _moved(rate: FloatArray, by: FloatArray | float) -> FloatArray:
    """Rates moved by up to ``by``, most at 1/2 and not at all at 0 and 1; in [0, 1] for |by| <= 1/4."""
    return rate + 4 * np.asarray(by) * rate * (1 - rate)


def _around(rng: np.random.Generator, mean: FloatArray, fit: float) -> FloatArray:
    """Beta rates with these means."""
    inner = np.clip(mean, 1e-9, 1 - 1e-9)
    return rng.beta(fit * inner, fit * (1 - inner))


def true_score(move: float) -> float:
    """Expected pass@1, averaged over the sets, of a method that moves rates by ``move``."""
    means = []
    for _, a, b in SETS.values():
        mean = a / (a + b)
        means.append(mean + 4 * move * (mean - mean * (a + 1) / (a + b + 1)))
    return float(np.mean(means))


def move_for(gain: float) -> float:
    """The move that raises the expected score by ``gain``."""
    return gain / (true_score(1.0) - true_score(0.0))


def _records(rng: np.random.Generator, moves: Sequence[float]) -> list[dict[str, Any]]:
    size = (len(moves), SEEDS, 1)
    luck = rng.standard_normal(size) * 0.75**0.5 + rng.standard_normal((1, SEEDS, 1)) * 0.25**0.5
    seed_move = np.clip(SEED_SD * luck, -0.25, 0.25)
    evals: dict[tuple[int, int], dict[str, Any]] = {}
    for name, (problems, a, b) in SETS.items():
        before = rng.beta(a, b, size=problems)
        method_MP = _around(rng, _moved(before, np.array(moves)[:, None]), METHOD_FIT)
        rate_MSP = _around(rng, _moved(method_MP[:, None, :], seed_move), SEED_FIT)
        counts = rng.binomial(SAMPLES, rate_MSP)
        for m, s in np.ndindex(len(moves), SEEDS):
            evals.setdefault((m, s), {})[name] = {"n": SAMPLES, "correct": counts[m, s].tolist()}
    shared = {"schema": 2, "role": "method", "model": "known", "benchmark": "known@1",
              "numerics_version": 1, "tuned": True}  # fmt: skip
    return [
        shared | {"method": f"m{m}", "seed": s, "run_id": f"m{m}-s{s}", "evals": own}
        for (m, s), own in evals.items()
    ]


@dataclass(frozen=True)
class World:
    """Reports about methods with known expected scores; the first method is the reference."""

    moves: tuple[float, ...]
    reports: tuple[Report, ...]

    @property
    def headlines(self) -> list[Table]:
        return [report.tables[0] for report in self.reports]

    def lines(self) -> list[list[Line]]:
        """Per report the headline's lines, in the order of ``moves``."""
        return [sorted(table.lines, key=lambda line: line.group.method) for table in self.headlines]


@cache
def world(*moves: float) -> World:
    rng = np.random.default_rng([len(moves), *(round(1e6 * abs(move)) for move in moves)])
    reports = tuple(
        build_report(typed(_records(rng, moves)), title="", subtitle="", expected_seeds=None, reference="m0")
        for _ in range(REPORTS)
    )
    return World(moves, reports)


ALIKE = (0.0,) * METHODS
#: Gains of 0 to 15 points: some pairs can be told apart, some cannot.
SPREAD = tuple(move_for(gain) for gain in (0.0, 0.02, 0.05, 0.09, 0.12, 0.15))


def _slack(share: float) -> float:
    """Three standard errors of a share over the reports."""
    return 3 * (share * (1 - share) / REPORTS) ** 0.5


def test_the_world_has_the_expected_scores_it_says() -> None:
    found = world(*SPREAD)
    scores = np.array([[line.score for line in lines] for lines in found.lines()], dtype=float)
    error = scores.std(axis=0, ddof=1) / REPORTS**0.5
    assert np.all(np.abs(scores.mean(axis=0) - [true_score(move) for move in SPREAD]) < 4 * error)


def _covered(found: World, half_widths: FloatArray | None = None) -> FloatArray:
    """[reports, methods]: whether the interval, printed or of that half width, holds the expected score."""
    truth = [true_score(move) for move in found.moves]
    hits = np.zeros((len(found.reports), len(truth)))
    for r, lines in enumerate(found.lines()):
        for m, (line, t) in enumerate(zip(lines, truth, strict=True)):
            assert line.interval is not None and line.interval.kind == "interval" and line.score is not None
            low, high = line.interval.low, line.interval.high
            if half_widths is not None:
                low, high = line.score - half_widths[r, m], line.score + half_widths[r, m]
            hits[r, m] = low <= t <= high
    return hits


def test_printed_intervals_hold_the_expected_score() -> None:
    for found in (world(*ALIKE), world(*SPREAD)):
        hits = _covered(found)
        assert np.all(hits.mean(axis=0) >= LEVEL - _slack(LEVEL))
        assert hits.mean() <= 0.985, "an interval that nearly always holds the score says too little"
    # of a single set too, where the few problems weigh more
    for name, (_, a, b) in SETS.items():
        tables = [t for report in world(*ALIKE).reports for t in report.tables if t.name == name]
        first = [min(table.lines, key=lambda line: line.group.method).interval for table in tables]
        hits = [i is not None and i.low <= a / (a + b) <= i.high for i in first]
        assert np.mean(hits) >= LEVEL - _slack(LEVEL)


def test_leaving_out_seeds_or_problems_would_be_noticed() -> None:
    """The limit of the test above can fail: intervals over problems alone, or seeds alone, break it."""
    found = world(*ALIKE)
    full = np.array([[row.interval.half_width for row in rows if row.interval] for rows in found.lines()])
    scores = [np.stack([r.curves[f"method/m{m}"][:, 0] for m in range(METHODS)]) for r in found.reports]
    seeds = np.array([[1.96 * (seed_noise(own).variance / SEEDS) ** 0.5] * METHODS for own in scores])
    problems = np.sqrt(np.maximum(full**2 - seeds**2, 0.0))
    assert _covered(found, problems).mean() < LEVEL - _slack(LEVEL) < _covered(found).mean()
    assert _covered(found, seeds).mean() < LEVEL - _slack(LEVEL)


def test_methods_without_a_difference_are_seldom_called_different() -> None:
    """Holm's p over all rows: the chance of even one false difference to the reference."""
    wrong = [any(line.p is not None and line.p < ALPHA for line in lines) for lines in world(*ALIKE).lines()]
    assert np.mean(wrong) <= ALPHA + _slack(ALPHA)
    assert any(wrong), "a test that never errs has no power"


def test_the_printed_smallest_difference_is_found_as_often_as_the_table_says() -> None:
    detectable = [table.detectable for table in world(*ALIKE).headlines]
    size = float(np.median([value for value in detectable if value is not None]))
    found = world(0.0, move_for(size), *ALIKE[2:])
    found_it = [lines[1].p is not None and lines[1].p < ALPHA for lines in found.lines()]
    assert np.mean(found_it) == pytest.approx(POWER, abs=_slack(POWER))
    others = [any(line.p is not None and line.p < ALPHA for line in lines[2:]) for lines in found.lines()]
    assert np.mean(others) <= ALPHA + _slack(ALPHA)  # a real difference beside them makes no false ones


def _hold(lines: Sequence[Line], places: Sequence[tuple[int, int]]) -> bool:
    """Whether all ranges of ranks hold the true places at once."""
    ranks = [line.rank for line in lines]
    return all(
        rank is not None and rank[0] <= first and last <= rank[1]
        for rank, (first, last) in zip(ranks, places, strict=True)
    )


def test_all_true_ranks_lie_in_their_ranges_at_once() -> None:
    alike = [_hold(lines, [(1, METHODS)] * METHODS) for lines in world(*ALIKE).lines()]
    assert np.mean(alike) >= LEVEL - _slack(LEVEL)
    ordered = [(METHODS - m, METHODS - m) for m in range(METHODS)]  # of SPREAD, the last is the best
    spread = world(*SPREAD).lines()
    assert np.mean([_hold(lines, ordered) for lines in spread]) >= LEVEL - _slack(LEVEL)
    told_apart = [line.rank != (1, METHODS) for lines in spread for line in lines]
    assert np.mean(told_apart) > 0.5, "ranges of everything are always right and say nothing"
