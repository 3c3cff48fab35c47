"""How a row fares over a whole grid of learning rates, and not only at the one that was chosen for it.

A method that is no better at its best rate may still be good at more rates. Two sources say so: the tuning
trials (validation, one seed, the chosen knob at every rate), and sweeps that have a table for each rate
(test sets, all seeds). Rows are compared over the rates that all of them have to have, with equal seeds and
budgets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.records.trial import TrialRecord

#: Shares of the score: rates that lose no more than this are as good as the best.
WITHIN = 0.02
#: Names of a row's numbers.
ROBUST = ("robust_best", "robust_mean", "robust_worst", "robust_low", "robust_high", "robust_rates")


@dataclass(frozen=True)
class Point:
    """What a row scored at one rate; ``budget`` in generated tokens, None where it is not known."""

    row: str
    rate: float
    score: float
    seeds: tuple[int, ...]
    budget: int | None


@dataclass(frozen=True)
class Over:
    """One row over its rates.

    Attributes:
        scores: rate -> score, by rate.
        mean, worst: over the rates of the grid; best: over all that it has.
        low, high: ends of the unbroken range of rates about the best that lose at most ``WITHIN``.
    """

    scores: Mapping[float, float]
    best: float
    best_rate: float
    mean: float
    worst: float
    low: float
    high: float

    @property
    def numbers(self) -> dict[str, float | None]:
        """The plain numbers, by the names that tables use."""
        inside = [rate for rate in self.scores if self.low <= rate <= self.high]
        return {
            "robust_best": self.best, "robust_mean": self.mean, "robust_worst": self.worst,
            "robust_low": self.low, "robust_high": self.high, "robust_rates": float(len(inside)),
        }  # fmt: skip


@dataclass(frozen=True)
class Surface:
    """All rows over the grid; ``what`` says which score, ``seeds`` which all rows have."""

    what: str
    grid: tuple[float, ...]
    rows: Mapping[str, Over]
    seeds: tuple[int, ...]

    @property
    def rates(self) -> tuple[float, ...]:
        """Every rate that some row has."""
        return tuple(sorted({rate for row in self.rows.values() for rate in row.scores}))


def surface(points: Sequence[Point], what: str, grid: Sequence[float] = ()) -> Surface | None:
    """The surface of ``points``; None where there are fewer than two rates.

    Args:
        grid: the rates that every row has to have; by default all that any row has.

    Raises:
        ValueError: a row lacks a rate, or rows differ in seeds or budget; the message names both sides.
    """
    wanted = tuple(sorted(set(grid) or {point.rate for point in points}))
    if len(wanted) < 2 or not points:
        return None
    _alike(points, "seeds", lambda p: ", ".join(map(str, p.seeds)), "run the missing seeds")
    _alike(points, "token budgets", lambda p: str(p.budget), "run all rows to one train.token_budget")
    rows: dict[str, dict[float, float]] = {}
    for point in points:
        own = rows.setdefault(point.row, {})
        if own.setdefault(point.rate, point.score) != point.score:
            raise ValueError(f"{point.row} has two scores at a rate of {point.rate:g}: keep one of them")
    tried = sorted({*wanted, *(rate for own in rows.values() for rate in own)})
    for name, own in rows.items():
        between = [rate for rate in tried if min(own) < rate < max(own)]
        holes = [rate for rate in sorted({*wanted, *between}) if rate not in own]
        if holes:
            lacking = ", ".join(f"{rate:g}" for rate in holes)
            raise ValueError(
                f"the grid of learning rates has a hole: {name} was not run at {lacking}. Remedy: run it "
                "there (sweep tune tries what is missing), or leave the rate out for all"
            )
    return Surface(what, wanted, {name: _over(own, wanted) for name, own in rows.items()}, points[0].seeds)


def of_trials(trials: Sequence[TrialRecord], numerics: int) -> Surface | None:
    """The surface of a sweep's tuning trials by one numerics version; the chosen knob at every rate.

    Raises:
        ValueError: as of :func:`surface`, or methods that were tuned by another rule.
    """
    own = [trial for trial in trials if trial.numerics_version == numerics]
    knobs = {trial.method: trial.knob for trial in own if trial.chosen}
    held = [trial for trial in own if trial.method in knobs and trial.knob == knobs[trial.method]]
    rules = {" and ".join(sorted(trial.scores)): trial.method for trial in held}
    if len(rules) > 1:
        told = "; ".join(f"{rule} of {method}" for rule, method in sorted(rules.items()))
        raise ValueError(f"methods were tuned on different scores: {told}. Remedy: tune them by one metric")
    if not held:
        return None
    points = [Point(t.method, t.rate, t.score, (t.seed,), t.token_budget) for t in held]
    return surface(points, next(iter(rules)), held[0].grid)


def _over(own: Mapping[float, float], grid: Sequence[float]) -> Over:
    rates = sorted(own)
    best = max(rates, key=lambda rate: (own[rate], -rate))
    low = high = rates.index(best)
    while low > 0 and own[rates[low - 1]] >= own[best] - WITHIN:
        low -= 1
    while high < len(rates) - 1 and own[rates[high + 1]] >= own[best] - WITHIN:
        high += 1
    values = [own[rate] for rate in grid]
    return Over(
        {rate: own[rate] for rate in rates}, own[best], best, sum(values) / len(values), min(values),
        rates[low], rates[high],
    )  # fmt: skip


def _alike(points: Sequence[Point], what: str, says: Callable[[Point], str], remedy: str) -> None:
    first: dict[str, Point] = {}
    for point in points:
        first.setdefault(says(point), point)
    if len(first) > 1:
        told = "; ".join(f"{text} in {p.row} at {p.rate:g}" for text, p in sorted(first.items()))
        raise ValueError(
            f"rows of unequal {what} cannot stand in one table of learning rates: {told}. Remedy: {remedy}, "
            "or leave the row out"
        )
