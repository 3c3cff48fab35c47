"""A row's checkpoints on the validation set: pass@1 and pass@k over training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.report.analysis.scores import Curve, counts_of, curve_of, entropy_at
from harness.report.data.groups import Group, once
from harness.statistics import each_mean_pass_at_ks


@dataclass(frozen=True)
class Checkpoints:
    """Those of a row's checkpoints that have ``n`` samples of each of P problems.

    ``row_of``: place of the seed and step -> the checkpoint's row of ``counts_NP``, the right samples.
    """

    n: int
    row_of: dict[tuple[int, int], int]
    counts_NP: NDArray[np.int64]


@once
def checkpoints(group: Group) -> tuple[Checkpoints, ...]:
    """All checkpoints with samples, those of equal size together."""
    alike: dict[tuple[int, int], dict[tuple[int, int], list[int]]] = {}
    for seed, record in enumerate(group.records):
        for point in record.frontier:
            if point.correct:
                alike.setdefault((point.n, len(point.correct)), {})[seed, point.step] = point.correct
    return tuple(
        Checkpoints(n, {place: row for row, place in enumerate(own)}, counts_of(list(own.values())))
        for (n, _), own in alike.items()
    )


@once
def frontier_scores(group: Group, k: int) -> list[tuple[dict[int, float], dict[int, float]]]:
    """Of each seed, pass@1 and pass@``k`` by step, where a checkpoint has at least ``2 * k`` samples."""
    pairs: list[tuple[dict[int, float], dict[int, float]]] = [({}, {}) for _ in group.records]
    for own in checkpoints(group):
        if own.n >= 2 * k:
            scores = each_mean_pass_at_ks(own.n, own.counts_NP, (1, k)).tolist()
            for ((seed, step), _), (one, many) in zip(own.row_of.items(), scores, strict=True):
                pairs[seed][0][step], pairs[seed][1][step] = one, many
    return pairs


@once
def even_steps(group: Group) -> list[int] | None:
    """The steps of the checkpoints where all runs have the same, of equal size and in order; else None.

    The counts of :func:`checkpoints` are then ``[S * T, P]``, seed by seed.
    """
    blocks, seeds = checkpoints(group), len(group.records)
    if len(blocks) != 1 or len(blocks[0].row_of) % seeds:
        return None
    places = list(blocks[0].row_of)
    steps = [step for _, step in places[: len(places) // seeds]]
    even = steps == sorted(steps) and places == [(seed, step) for seed in range(seeds) for step in steps]
    return steps if even else None


@once
def frontier_curves(group: Group, k: int) -> tuple[Curve, Curve] | None:
    """pass@1 and pass@``k`` over the checkpoints on the validation set, seed by seed."""
    steps = even_steps(group)
    if steps is not None and (own := checkpoints(group)[0]).n >= 2 * k:
        scores = each_mean_pass_at_ks(own.n, own.counts_NP, (1, k)).reshape(-1, len(steps), 2)
        one, many = (Curve(np.array(steps), scores[..., at].copy()) for at in (0, 1))
        return one, many
    pairs = frontier_scores(group, k)
    first, second = curve_of([one for one, _ in pairs]), curve_of([many for _, many in pairs])
    return None if first is None or second is None else (first, second)


def frontier_entropy(group: Group) -> Curve | None:
    """Probe entropy in nats per token at the checkpoints on the validation set."""
    pairs = [
        {p.step: entropy_at(probed, p.step) for p in record.frontier if p.correct}
        for record, probed in zip(group.records, group.probes, strict=True)
    ]
    return curve_of([{step: nats for step, nats in own.items() if nats is not None} for own in pairs])


def frontier_k(groups: Sequence[Group]) -> int | None:
    """Largest power of two up to 32 that the checkpoints' samples allow (n >= 2 k); ``None`` without any."""
    ns = [own.n for group in groups for own in checkpoints(group)]
    ks = [k for k in (2, 4, 8, 16, 32) if ns and 2 * k <= min(ns)]
    return ks[-1] if ks else None
