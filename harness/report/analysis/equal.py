"""Diversity at equal pass@1: what each row has left when it first reaches one common pass@1.

At equal tokens a row that learns less keeps more entropy and more pass@k for free. So a second look takes
every run at the moment when it crosses one level of pass@1 on the validation set:

* The *level* follows from the reference alone, so that no other row moves it: ``SHARE`` of the way from the
  reference's mean pass@1 at its first checkpoint to the best checkpoint of its weakest seed, cut to a tenth
  of a percent. Every seed of the reference reaches it.
* A run's *crossing* is the first pair of neighbouring checkpoints below and at or above the level; step and
  pass@k are interpolated linearly between them, problem by problem, and so is the probe entropy at that
  step. A run that never gets there, or that starts above, has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import floor

import numpy as np

from harness.records.record import FrontierPoint, Record
from harness.report.analysis.checkpoints import frontier_k
from harness.report.analysis.levels import ALPHA, POWER
from harness.report.analysis.scores import FloatArray, entropy_at
from harness.report.data.groups import Group, probes, row_of
from harness.statistics import detectable_difference, holm, paired_differences, pass_at_k, seed_noise

#: Of the reference's gain. Late, where methods part, and still before the end, which a level of 1 would be.
SHARE = 0.9

#: Names of a row's numbers at the level.
EQUAL = (
    *("equal_pass_k", "equal_pass_k_low", "equal_pass_k_high", "equal_delta", "equal_p_holm"),
    *("equal_entropy", "equal_entropy_low", "equal_entropy_high", "equal_step", "equal_seeds"),
)


@dataclass(frozen=True)
class Crossing:
    """One run at the level.

    Attributes:
        step: training step, interpolated.
        problem_P: pass@k of every validation problem there.
        entropy: probe entropy there, nats per token; None without probes around it.
    """

    step: float
    problem_P: FloatArray
    entropy: float | None


@dataclass(frozen=True)
class Spread:
    """Mean over the seeds that reach the level, and the smallest and largest of them."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class AtLevel:
    """A row at the level; shares in [0, 1], nats per token.

    Attributes:
        reached: how many seeds reach the level.
        pass_k, entropy, step: over those seeds; None where none does, or entropy was not probed.
        delta: difference in pass@k to the reference over the seeds in common; ``p`` is Holm-corrected.
    """

    reached: int
    pass_k: Spread | None = None
    entropy: Spread | None = None
    step: float | None = None
    delta: float | None = None
    p: float | None = None

    @property
    def numbers(self) -> dict[str, float | None]:
        """The plain numbers, by the names that tables use."""
        found: dict[str, float | None] = {
            "equal_seeds": float(self.reached), "equal_step": self.step, "equal_delta": self.delta,
            "equal_p_holm": self.p,
        }  # fmt: skip
        for name, spread in (("equal_pass_k", self.pass_k), ("equal_entropy", self.entropy)):
            found |= {
                name: spread.mean if spread else None,
                f"{name}_low": spread.low if spread else None,
                f"{name}_high": spread.high if spread else None,
            }
        return found


@dataclass(frozen=True)
class Equal:
    """``level`` is the pass@1 that rows are compared at, ``k`` that of pass@k.

    ``rows``, by :attr:`Group.key`, are those with a training of their own: no base model, no control of the
    evaluation alone. ``detectable`` is the true difference in pass@k that the median of them would be found
    with.
    """

    level: float
    k: int
    rows: dict[str, AtLevel]
    detectable: float | None = None


def at_equal_score(groups: Sequence[Group], reference: str) -> Equal | None:
    """Every row with a training of its own at the common level.

    None where the reference has no checkpoints or gains nothing.

    Raises:
        ValueError: a run's checkpoints were evaluated on different numbers of problems.
    """
    k = frontier_k(groups)
    anchor = row_of(groups, reference)
    level = common_level(anchor) if anchor and k else None
    if anchor is None or k is None or level is None:
        return None
    trained = [group for group in groups if group.role != "base" and not group.evaluation_only]
    runs = [{record.seed: crossing(record, level, k) for record in g.records} for g in trained]
    reached = [{seed: found for seed, found in own.items() if found} for own in runs]
    tests, detectable = _differences(reached, trained.index(anchor))
    return Equal(
        level,
        k,
        {group.key: _row(own, *test) for group, own, test in zip(trained, reached, tests, strict=True)},
        detectable,
    )


def common_level(reference: Group) -> float | None:
    """The pass@1 to compare at; None unless every seed of the reference gains on its first checkpoint."""
    curves = [[score for _, _, score in _checkpoints(record)] for record in reference.records]
    if not curves or not all(curves):
        return None
    start = float(np.mean([own[0] for own in curves]))
    best = min(max(own) for own in curves)
    level = floor(1000 * (start + SHARE * (best - start)) + 1e-9) / 1000
    return level if level > max(own[0] for own in curves) else None


def crossing(record: Record, level: float, k: int) -> Crossing | None:
    """Where a run first reaches ``level``, or None."""
    usable = [point for point in _checkpoints(record) if point[1].n >= 2 * k]
    for (step_a, a, score_a), (step_b, b, score_b) in pairwise(usable):
        if score_a < level <= score_b:
            part = (level - score_a) / (score_b - score_a)
            step = step_a + part * (step_b - step_a)
            before, after = (pass_at_k(p.n, p.correct, k) for p in (a, b))
            if before.shape != after.shape:
                raise ValueError(
                    f"{record.run_id}: its checkpoints hold different numbers of problems; "
                    "collect the run again"
                )
            return Crossing(step, before + part * (after - before), entropy_at(probes(record), step))
    return None


def _checkpoints(record: Record) -> list[tuple[float, FrontierPoint, float]]:
    """``(step, point, pass@1)`` of every checkpoint with samples, by step."""
    points = [point for point in record.frontier if point.correct]
    return [
        (float(p.step), p, sum(p.correct) / len(p.correct) / p.n)
        for p in sorted(points, key=lambda p: p.step)
    ]


def _row(reached: dict[int, Crossing], delta: float | None, p: float | None) -> AtLevel:
    if not reached:
        return AtLevel(0)
    found = list(reached.values())
    entropies = [one.entropy for one in found if one.entropy is not None]
    return AtLevel(
        reached=len(found),
        pass_k=_spread([float(one.problem_P.mean()) for one in found]),
        entropy=_spread(entropies) if len(entropies) == len(found) else None,
        step=float(np.mean([one.step for one in found])),
        delta=delta,
        p=p,
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(float(np.mean(values)), float(min(values)), float(max(values)))


def _differences(
    rows: Sequence[dict[int, Crossing]], anchor: int
) -> tuple[list[tuple[float | None, float | None]], float | None]:
    """Per row the difference in pass@k to the reference and its corrected p; and what would be detectable."""
    problems = {len(one.problem_P) for own in rows for one in own.values()}
    if len(problems) > 1:  # rows of other validation problems: nothing to pair
        return [(None, None)] * len(rows), None
    seeds = sorted({seed for own in rows for seed in own})
    width = problems.pop() if problems else 0
    matrix, means = np.full((len(rows), len(seeds)), np.nan), np.full((len(rows), width), np.nan)
    for index, own in enumerate(rows):
        for seed, one in own.items():
            matrix[index, seeds.index(seed)] = one.problem_P.mean()
        if own:
            means[index] = np.mean([one.problem_P for one in own.values()], axis=0)
    test = paired_differences(matrix, [means], seed_noise(matrix), against=[anchor])
    p = test.p[:, 0].copy()
    p[anchor] = np.nan
    found: list[tuple[float | None, float | None]] = []
    for index, (difference, corrected) in enumerate(zip(test.difference[:, 0], holm(p), strict=True)):
        known = index != anchor and bool(np.isfinite(difference))
        found.append(
            (
                float(difference) if known else None,
                float(corrected) if known and np.isfinite(corrected) else None,
            )
        )
    return found, detectable_difference(test, anchor, alpha=ALPHA, power=POWER)[0]
