"""From grouped records to arrays: scores of every run, means of every problem, curves over training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.records.record import Evaluation, PassSamples, Record
from harness.report.data.groups import Group, Probed, once
from harness.statistics import each_mean_pass_at_ks, pass_at_k, printable_ks
from harness.util.batches import kind_by_kind

FloatArray = NDArray[np.float64]
_Part = TypeVar("_Part")
#: How many samples of each problem, and [..., S, P] how many of them are right.
_Samples = tuple[int, NDArray[np.int64]]
#: Of each seed, how many samples of how many problems.
_Sizes = tuple[tuple[int, int], ...]

MAX_K = 32
#: From here on numpy adds in pairs and not from left to right.
_PAIRWISE = 8


@dataclass(frozen=True)
class SetScores:
    """One method on one test set: ``curve_SK`` pass@1..K per seed, ``problem_P`` pass@1 averaged over seeds.

    ``n`` is the smallest number of samples over the seeds, ``K = min(32, n // 2)``. ``samples`` are those
    that pass@k of k > 1 comes from, of one seed after the other.
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
            self._problem_at[k] = _mean_pass_at_k(self.samples, k)
        return self._problem_at[k]


@dataclass(frozen=True)
class _Drawn:
    """Per seed how many samples of each problem there are, and how many of them are right.

    ``firsts`` is for pass@1 alone where a profile draws samples of its own for k > 1, and None elsewhere.
    """

    samples: list[tuple[int, list[int]]]
    firsts: list[tuple[int, list[int]]] | None


def score_sets(
    groups: Sequence[Group], name: str, problem_ids: Sequence[str] | None
) -> list[SetScores | None]:
    """Scores of each group on set ``name``; ``None`` unless every one of its runs has the set with n >= 2.

    A mean over the runs that happen to have been evaluated would not be comparable. One sample is enough
    where it is greedy: there is nothing else to draw.

    Raises:
        ValueError: the problems are not those of ``problem_ids``.
    """
    drawn = [_drawn(group, name, problem_ids) for group in groups]
    return kind_by_kind(drawn, _both_sizes, _scores)


def _drawn(group: Group, name: str, problem_ids: Sequence[str] | None) -> _Drawn | None:
    runs = [(record, record.evals[name]) for record in group.records if name in record.evals]
    if not runs or len(runs) < len(group.records):
        return None
    if any(not e.correct or (e.n < 2 and not _greedy(e)) for _, e in runs):
        return None
    firsts = [(e.n, _aligned(e, problem_ids, record, name)) for record, e in runs]
    if not any(e.passes for _, e in runs):
        return _Drawn(firsts, None)
    return _Drawn([(e.for_pass.n, _aligned(e.for_pass, problem_ids, r, name)) for r, e in runs], firsts)


def _both_sizes(drawn: _Drawn | None) -> tuple[_Sizes, _Sizes | None] | None:
    if drawn is None:
        return None
    return _sizes(drawn.samples), None if drawn.firsts is None else _sizes(drawn.firsts)


def _sizes(samples: Sequence[tuple[int, list[int]]]) -> _Sizes:
    return tuple((n, len(correct)) for n, correct in samples)


def _scores(
    sizes: tuple[_Sizes, _Sizes | None] | None, drawn: Sequence[_Drawn | None]
) -> list[SetScores | None]:
    """Of groups that are of the same sizes, seed by seed."""
    known = [own for own in drawn if own is not None]
    if sizes is None or not known:
        return [None] * len(drawn)
    n = min(n for own in sizes if own for n, _ in own)
    ks = range(1, min(MAX_K, max(1, n // 2)) + 1)
    firsts = samples = _in_blocks([own.samples for own in known])
    curve_GSK = _mean_curves(samples, ks)
    if apart := [own.firsts for own in known if own.firsts is not None]:
        firsts = _in_blocks(apart)
        curve_GSK[:, :, :1] = _mean_curves(firsts, ks[:1])
    top = max(printable_ks(n), default=1)
    problem_GP, many_GP = _mean_pass_at_k(firsts, 1), _mean_pass_at_k(samples, top)
    return [
        SetScores(n, curve_SK, problem_P, tuple((n, own[at]) for n, own in samples), {top: many_P})
        for at, (curve_SK, problem_P, many_P) in enumerate(zip(curve_GSK, problem_GP, many_GP, strict=True))
    ]


def _in_blocks(groups: Sequence[Sequence[tuple[int, list[int]]]]) -> list[_Samples]:
    """``(n, [G, S, P])`` of one seed after the other, neighbours of equal size together."""
    blocks, start = [], 0
    for (n, _), own in groupby(_sizes(groups[0])):
        stop = start + len(list(own))
        counts = counts_of([correct for samples in groups for _, correct in samples[start:stop]])
        blocks.append((n, counts.reshape(len(groups), stop - start, -1)))
        start = stop
    return blocks


def counts_of(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """[N, P] rows of equally many counts; small ones go through bytes, which takes half as long."""
    try:
        flat = np.frombuffer(b"".join(map(bytes, rows)), np.uint8).astype(np.int64)
    except ValueError:  # some count is over 255, or no count at all
        flat = np.fromiter(chain.from_iterable(rows), np.int64)
    return flat.reshape(len(rows), -1)


def _mean_curves(samples: Sequence[_Samples], ks: Sequence[int]) -> FloatArray:
    """[G, S, K] mean over the problems of pass@k, seed by seed."""
    each = [
        each_mean_pass_at_ks(n, counts.reshape(-1, counts.shape[-1]), ks).reshape(*counts.shape[:-1], -1)
        for n, counts in samples
    ]
    return np.concatenate(each, axis=1)


def _mean_pass_at_k(samples: Sequence[_Samples], k: int) -> FloatArray:
    """[..., P] pass@k averaged over seeds."""
    each = [pass_at_k(n, counts, k) for n, counts in samples]
    return np.asarray(np.concatenate(each, axis=-2).mean(axis=-2))


def _greedy(evaluation: Evaluation) -> bool:
    return evaluation.temperature == 0 and evaluation.passes is None


def _aligned(
    evaluation: Evaluation | PassSamples, problem_ids: Sequence[str] | None, record: Record, name: str
) -> list[int]:
    correct, ids, where = evaluation.correct, evaluation.problem_ids, f"{record.run_id} on {name}"
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
    return _mean_of([*map(number, parts)])


def means_of(
    parts: Sequence[_Part], keys: Sequence[str], numbers: Callable[[_Part], Sequence[Any]]
) -> dict[str, float | None]:
    """:func:`mean_of` of several numbers, by ``keys`` in the order in which ``numbers`` gives them."""
    if not parts:
        return dict.fromkeys(keys)
    return dict(zip(keys, map(_mean_of, zip(*map(numbers, parts), strict=True)), strict=True))


def _mean_of(values: Sequence[Any]) -> float | None:
    if not values:
        return None
    if type(values[0]) is list:  # one number per problem
        values = [_mean_count(value) if isinstance(value, list) else value for value in values]
    if len(values) < _PAIRWISE:
        total = 0.0
        try:  # nearly always
            for value in values:
                total += value
        except TypeError:  # one is None, or a list
            total = math.nan
        if math.isfinite(total):
            return total / len(values)
    if list in map(type, values):
        values = [_mean_count(value) if isinstance(value, list) else value for value in values]
    if None in values or not all(map(math.isfinite, values)):
        return None
    return mean([*map(float, values)])


def _mean_count(counts: Sequence[Any]) -> float | None:
    """Of one whole number per problem; their sum is exact in any order."""
    try:
        return sum(counts) / len(counts) if counts else None
    except TypeError:  # one is None
        return None


def mean(values: Sequence[float]) -> float:
    """To the last bit what ``np.mean`` gives, which takes many times as long on a short list."""
    if len(values) < _PAIRWISE:
        return add(values) / len(values)
    return float(np.add.reduce(values)) / len(values)


def mean_of_rows(rows: ArrayLike) -> FloatArray:
    """To the last bit what ``np.mean`` gives over the first axis, in a third of the time."""
    array = np.asarray(rows, dtype=np.float64)
    return np.asarray(np.add.reduce(array) / len(array))


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
    if all(points.keys() == per_seed[0].keys() for points in per_seed[1:]):
        steps = sorted(per_seed[0])
        return Curve(np.array(steps), np.array([[points[step] for step in steps] for points in per_seed]))
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


def entropy_at(probes: Sequence[Probed], step: float) -> float | None:
    """Probe entropy of one run at a step, between the probes around it; None outside of them."""
    if not probes or probes[0][0] == probes[-1][0] or not probes[0][0] <= step <= probes[-1][0]:
        return None
    for at, _, nats in reversed(probes):
        if at == step:
            return nats
    points = {at: nats for at, _, nats in probes}
    return float(np.interp(step, list(points), list(points.values())))


@once
def entropy_curve(group: Group) -> Curve | None:
    """Probe entropy in nats per token over steps."""
    return curve_of([{step: nats for step, _, nats in own} for own in group.probes])
