"""From grouped records to arrays: scores of every run, means of every problem, curves over training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.records.record import Evaluation, FrontierPoint, PassSamples, Record
from harness.report.data.groups import Group, Probed, probes
from harness.statistics import each_mean_pass_at_ks, mean_pass_at_ks, pass_at_k

FloatArray = NDArray[np.float64]
_Part = TypeVar("_Part")
#: How many samples of each problem, and [P] how many of them are right.
_Samples = tuple[int, NDArray[np.int64]]

MAX_K = 32
#: From here on numpy adds in pairs and not from left to right.
_PAIRWISE = 8


@dataclass(frozen=True)
class SetScores:
    """One method on one test set: ``curve_SK`` pass@1..K per seed, ``problem_P`` pass@1 averaged over seeds.

    ``n`` is the smallest number of samples over the seeds, ``K = min(32, n // 2)``. ``samples`` are per seed
    those that pass@k of k > 1 comes from: how many of each problem, and [P] how many of them are right.
    """

    n: int
    curve_SK: FloatArray
    problem_P: FloatArray
    samples: tuple[_Samples, ...]
    _problem_at: dict[int, FloatArray] = field(default_factory=dict, repr=False, compare=False)

    def problem_at(self, k: int) -> FloatArray:
        """[P] pass@k averaged over seeds; needs n >= k."""
        if k == 1:
            return self.problem_P
        if k not in self._problem_at:
            self._problem_at[k] = np.asarray(np.mean(_each_pass_at_k(self.samples, k), axis=0))
        return self._problem_at[k]


def score_set(group: Group, name: str, problem_ids: Sequence[str] | None) -> SetScores | None:
    """Scores of ``group`` on set ``name``; ``None`` unless every one of its runs has the set with n >= 2.

    A mean over the runs that happen to have been evaluated would not be comparable. One sample is enough
    where it is greedy: there is nothing else to draw.

    Raises:
        ValueError: the problems are not those of ``problem_ids``.
    """
    evals = [record.evals[name] for record in group.records if name in record.evals]
    if not evals or len(evals) < len(group.records):
        return None
    if any(not e.correct or (e.n < 2 and not _greedy(e)) for e in evals):
        return None
    n = min(part.n for e in evals for part in (e, e.for_pass))
    ks = range(1, min(MAX_K, max(1, n // 2)) + 1)
    samples: list[_Samples] = []
    firsts: list[_Samples] = []
    for record, evaluation in zip(group.records, evals, strict=True):
        where = f"{record.run_id} on {name}"
        own = evaluation.n, _counts(_aligned(evaluation, problem_ids, where))
        firsts.append(own)
        if evaluation.passes:  # a profile that draws samples of its own for k > 1
            own = evaluation.passes.n, _counts(_aligned(evaluation.passes, problem_ids, where))
        samples.append(own)
    curve_SK = _mean_curves(samples, ks)
    if any(evaluation.passes for evaluation in evals):
        curve_SK[:, :1] = _mean_curves(firsts, ks[:1])
    return SetScores(n, curve_SK, np.mean(_each_pass_at_k(firsts, 1), axis=0), tuple(samples))


def _counts(values: Sequence[int]) -> NDArray[np.int64]:
    """As an array; told their type and number, numpy takes half as long."""
    return np.fromiter(values, np.int64, len(values))


def _mean_curves(samples: Sequence[_Samples], ks: Sequence[int]) -> FloatArray:
    """[S, K] mean over the problems of pass@k, seed by seed."""
    if _alike(samples):
        return each_mean_pass_at_ks(samples[0][0], np.stack([correct for _, correct in samples]), ks)
    return np.stack([mean_pass_at_ks(n, correct_P, ks) for n, correct_P in samples])


def _each_pass_at_k(samples: Sequence[_Samples], k: int) -> Sequence[FloatArray] | FloatArray:
    """[P] pass@k of every seed."""
    if _alike(samples):
        return pass_at_k(samples[0][0], np.stack([correct for _, correct in samples]), k)
    return [pass_at_k(n, correct_P, k) for n, correct_P in samples]


def _alike(samples: Sequence[_Samples]) -> bool:
    """Whether all seeds drew as many samples of as many problems, so that one array holds them."""
    return len({(n, len(correct)) for n, correct in samples}) == 1


def _greedy(evaluation: Evaluation) -> bool:
    return evaluation.temperature == 0 and evaluation.passes is None


def _aligned(
    evaluation: Evaluation | PassSamples, problem_ids: Sequence[str] | None, where: str
) -> list[int]:
    correct, ids = evaluation.correct, evaluation.problem_ids
    if ids is not None and len(ids) != len(correct):
        raise ValueError(f"{where}: {len(correct)} counts for {len(ids)} problems; collect the run again")
    if problem_ids is None or ids == problem_ids:
        return correct
    if ids is None and len(correct) == len(problem_ids):
        return correct
    position = {problem: index for index, problem in enumerate(ids or ())}
    if len(position) != len(problem_ids) or any(problem not in position for problem in problem_ids):
        raise ValueError(
            f"{where}: other problems than the rest of the report; evaluate all runs on the same problem set"
        )
    return [correct[position[problem]] for problem in problem_ids]


def common_problems(groups: Sequence[Group], name: str) -> list[str] | None:
    """Problem ids of set ``name``, sorted: the bootstrap must not depend on the order in the records.

    Raises:
        ValueError: the runs were evaluated on it by different profiles, which one table must not mix.
    """
    profiles = {
        entry.profile_hash: str(entry.profile)
        for group in groups
        if not group.sampling_differs
        for record in group.records
        if (entry := record.evals.get(name)) and entry.profile_hash is not None
    }
    if len(profiles) > 1:
        said = ", ".join(f"{label} ({key})" for key, label in sorted(profiles.items()))
        raise ValueError(f"{name}: runs were evaluated by different profiles: {said}; evaluate all by one")
    for group in groups:
        for record in group.records:
            evaluation = record.evals.get(name)
            if evaluation and evaluation.problem_ids:
                return sorted(evaluation.problem_ids)
    return None


def mean_of(parts: Sequence[_Part], number: Callable[[_Part], Any]) -> float | None:
    """Mean over the seeds' records, or parts of them, of a number; ``None`` as soon as one lacks it."""
    values = []
    for part in parts:
        value = number(part)
        if isinstance(value, list):  # one number per problem
            value = _mean_count(value)
        if value is None or not math.isfinite(value):
            return None
        values.append(float(value))
    return mean(values) if values else None


def _mean_count(counts: Sequence[Any]) -> float | None:
    """Of one whole number per problem; their sum is exact in any order."""
    return sum(counts) / len(counts) if counts and None not in counts else None


def mean(values: Sequence[float]) -> float:
    """To the last bit what ``np.mean`` gives, which takes many times as long on a short list."""
    if len(values) < _PAIRWISE:
        return add(values) / len(values)
    return float(np.add.reduce(values)) / len(values)


def add(values: Iterable[float]) -> float:
    """The sum from left to right, on every version of Python (``sum`` corrects for rounding from 3.12 on)."""
    total = 0.0
    for value in values:
        total += value
    return total


@dataclass(frozen=True)
class Curve:
    """A quantity over training steps: ``values_ST`` one row per seed, only steps that every seed reached."""

    steps_T: NDArray[np.int64]
    values_ST: FloatArray


def curve_of(per_seed: Sequence[Mapping[int, float]]) -> Curve | None:
    """The curve of each seed's values by step; None where a seed has none."""
    if not per_seed or any(not points for points in per_seed):
        return None
    # Runs that a token budget ends stop at different steps: the points all seeds have, then each seed's last,
    # placed at the mean of their last steps.
    ends = [max(points) for points in per_seed]
    common = set.intersection(*(set(points) for points in per_seed))
    steps = sorted(step for step in common if step < min(ends)) + ([] if len(set(ends)) > 1 else [ends[0]])
    rows = [[points[step] for step in steps] for points in per_seed]
    if len(set(ends)) > 1:
        steps = [*steps, round(sum(ends) / len(ends))]
        rows = [[*row, points[end]] for row, points, end in zip(rows, per_seed, ends, strict=True)]
    return Curve(np.array(steps), np.array(rows))


def entropy_points(probes: Sequence[Probed]) -> dict[int, float]:
    """Probe entropy of one run in nats per token, by step."""
    return {step: nats for step, _, nats in probes}


def entropy_at(record: Record, step: float) -> float | None:
    """Probe entropy of one run at a step, between the probes around it; None outside of them."""
    points = sorted(entropy_points(probes(record)).items())
    if len(points) < 2 or not points[0][0] <= step <= points[-1][0]:
        return None
    return float(np.interp(step, [at for at, _ in points], [nats for _, nats in points]))


def entropy_curve(group: Group) -> Curve | None:
    """Probe entropy in nats per token over steps."""
    return curve_of([entropy_points(own) for own in group.probes])


def frontier_curves(group: Group, k: int) -> tuple[Curve, Curve] | None:
    """pass@1 and pass@``k`` over the checkpoints on the validation set, seed by seed."""
    pairs: list[tuple[dict[int, float], dict[int, float]]] = [({}, {}) for _ in group.records]
    alike: dict[tuple[int, int], list[tuple[int, FrontierPoint]]] = {}
    for seed, record in enumerate(group.records):
        for point in record.frontier:
            if point.correct and point.n >= 2 * k:
                alike.setdefault((point.n, len(point.correct)), []).append((seed, point))
    for (n, _), points in alike.items():
        counts = np.stack([_counts(point.correct) for _, point in points])
        values = each_mean_pass_at_ks(n, counts, (1, k)).tolist()
        for (seed, point), (one, many) in zip(points, values, strict=True):
            pairs[seed][0][point.step], pairs[seed][1][point.step] = one, many
    first, second = curve_of([one for one, _ in pairs]), curve_of([many for _, many in pairs])
    return None if first is None or second is None else (first, second)


def frontier_entropy(group: Group) -> Curve | None:
    """Probe entropy in nats per token at the checkpoints on the validation set."""
    pairs = [
        {p.step: entropy_at(record, p.step) for p in record.frontier if p.correct} for record in group.records
    ]
    return curve_of([{step: nats for step, nats in own.items() if nats is not None} for own in pairs])


def frontier_k(groups: Sequence[Group]) -> int | None:
    """Largest power of two up to 32 that the checkpoints' samples allow (n >= 2 k); ``None`` without any."""
    ns = [p.n for g in groups for r in g.records for p in r.frontier if p.correct]
    ks = [k for k in (2, 4, 8, 16, 32) if ns and 2 * k <= min(ns)]
    return ks[-1] if ks else None
