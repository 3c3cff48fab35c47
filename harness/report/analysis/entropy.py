"""Entropy control as a discipline of its own: what a row's entropy did, and what it went with.

Definitions, from the records but for what the card of a method says about the law:

* *start*, *end*: first and last probe entropy. *area*: its mean over the generated tokens of the run
  (trapezoids between probes, divided by their span), so that runs of unequal steps compare.
* *collapse*: the first probe from which on the entropy stays below ``COLLAPSED`` of the run's own start; the
  step printed is the mean over the seeds that collapse, beside their share.
* *right*, *wrong*: token means over training rollouts with that verdict, of the last quarter of the training.
* *overtaken at*: the smallest k at which the untrained model's pass@k reaches the row's, having been below at
  k = 1; none where that does not happen up to the printed k.
* *law*: R = -a exp(H) + b over the frontier points (:mod:`harness.statistics.law`), seed by seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from math import nan

import numpy as np

from harness.records.record import Record
from harness.report.analysis.conditions import UNTESTED, why_not
from harness.report.analysis.scores import FloatArray, mean, mean_of_rows
from harness.report.data.groups import Group, Probed
from harness.statistics.law import Estimate, LawFit, each_over_runs, fit_laws
from harness.util.batches import kind_by_kind

COLLAPSED = 0.2
#: ``(entropy_nats, pass@1)`` of the checkpoints of one run, in training order.
_LawPoints = list[tuple[float, float]]
#: Of each run its points and the fit through them.
_Fits = Sequence[tuple[_LawPoints, LawFit]]
#: Names of a row's numbers of entropy and law.
ENTROPY = (
    *("entropy_start", "entropy_end", "entropy_area", "collapsed", "collapse_step", "entropy_right"),
    *("entropy_wrong", "overtaken_at", "law_a", "law_b", "law_ceiling", "law_rmse"),
)
#: Share of the training at its end, over which the entropies of right and wrong rollouts are averaged.
_LATE = 0.25


@dataclass(frozen=True)
class Law:
    """The fit of a row.

    Attributes:
        a, b, ceiling: mean over seeds with an interval over seeds.
        rmse, r2: of all points about their own seed's fit; ``rmse`` in the unit of pass@1, a share.
        points: per seed ``(entropy_nats, pass@1, residual)`` of each frontier point, in training order.
        applies: whether the conditions of the law hold; ``why_not`` says what breaks them.
    """

    a: Estimate
    b: Estimate
    ceiling: Estimate
    rmse: float
    r2: float
    points: tuple[tuple[tuple[float, float, float], ...], ...]
    applies: bool
    why_not: str

    @property
    def verdict(self) -> str:
        """Whether the law applies, in words."""
        if self.applies:
            return "yes"
        return self.why_not if self.why_not == UNTESTED else f"no: {self.why_not}"


@dataclass(frozen=True)
class Discipline:
    """Entropies in nats per token, means over seeds; None where any seed lacks the measurement."""

    start: float | None
    end: float | None
    area: float | None
    collapsed: float | None
    collapse_step: float | None
    right: float | None
    wrong: float | None
    overtaken_at: int | None
    law: Law | None

    @property
    def numbers(self) -> dict[str, float | None]:
        """The plain numbers, by the names that tables use."""
        law = self.law
        return {
            "entropy_start": self.start, "entropy_end": self.end, "entropy_area": self.area,
            "collapsed": self.collapsed, "collapse_step": self.collapse_step,
            "entropy_right": self.right, "entropy_wrong": self.wrong,
            "overtaken_at": None if self.overtaken_at is None else float(self.overtaken_at),
            "law_a": law.a.value if law else None, "law_b": law.b.value if law else None,
            "law_ceiling": law.ceiling.value if law else None, "law_rmse": law.rmse if law else None,
        }  # fmt: skip


def discipline(
    group: Group, curve_SK: FloatArray | None, base_SK: FloatArray | None, law: Law | None
) -> Discipline:
    """What the records of ``group`` say about its entropy.

    Args:
        curve_SK, base_SK: pass@1..K of the row and of the untrained model, averaged over the test sets.
        law: the row's, from :func:`laws`.
    """
    probed = group.probes
    trained = group.role != "base"
    whole = probed and all(len(points) for points in probed)
    collapses = [_collapse(points) for points in probed] if whole and trained else []
    reached = [step for step in collapses if step is not None]
    return Discipline(
        start=mean([points[0][2] for points in probed]) if whole else None,
        end=mean([points[-1][2] for points in probed]) if whole and trained else None,
        area=mean(kind_by_kind(probed, len, _areas)) if whole and trained else None,
        collapsed=len(reached) / len(collapses) if collapses else None,
        collapse_step=mean(reached) if reached else None,
        right=late(group, "entropy_correct"),
        wrong=late(group, "entropy_wrong"),
        overtaken_at=overtaken_at(curve_SK, base_SK) if trained else None,
        law=law if trained else None,
    )


def overtaken_at(curve_SK: FloatArray | None, base_SK: FloatArray | None) -> int | None:
    """The smallest k at which the untrained model is at least as good, if it is not so at k = 1."""
    if curve_SK is None or base_SK is None:
        return None
    width = min(curve_SK.shape[1], base_SK.shape[1])
    ahead_K = mean_of_rows(curve_SK[:, :width]) > mean_of_rows(base_SK[:, :width])
    if not width or not ahead_K[0] or ahead_K.all():
        return None
    return int(np.argmin(ahead_K)) + 1


def _areas(_: int, probed: Sequence[Sequence[Probed]]) -> list[float]:
    """Mean entropy over the tokens of each run; all have equally many probes."""
    whole = np.array(probed)
    tokens, nats = whole[:, :, 1], whole[:, :, 2]
    steps = tokens[:, 1:] - tokens[:, :-1]
    under, span = ((nats[:, 1:] + nats[:, :-1]) / 2 * steps).sum(axis=1), tokens[:, -1] - tokens[:, 0]
    flat = span <= 0
    return np.where(flat, nats.mean(axis=1), under / np.where(flat, 1.0, span)).tolist()


def _collapse(points: Sequence[Probed]) -> float | None:
    limit = COLLAPSED * points[0][2]
    step = None
    for at, _, nats in reversed(points):
        if nats >= limit:
            break
        step = at
    return step


def late(group: Group, name: str) -> float | None:
    """Mean of a traced metric over the last windows of the course; windows that lack it are left out."""
    means = []
    for record in group.records:
        values = record.trace.get(name) or []
        known = [v for v in values[-max(1, round(_LATE * len(values))) :] if v is not None]
        if not known:
            return None
        means.append(sum(known) / len(known))
    return mean(means) if means else None


def laws(groups: Sequence[Group], reference: Group | None) -> dict[str, Law | None]:
    """The fits of all rows, by :attr:`Group.key`; None where a run has none.

    Args:
        reference: the row that differences are taken against; the law is about training like its.
    """
    points = [_law_points(record) for group in groups for record in group.records]
    fits = iter(zip(points, kind_by_kind(points, len, _fits), strict=True))
    rows = [[*islice(fits, len(group.records))] for group in groups]
    known = [[(points, fit) for points, fit in own if fit is not None] for own in rows]
    whole = [own if len(own) == len(row) else [] for own, row in zip(known, rows, strict=True)]
    over = iter(kind_by_kind([own for own in whole if own], len, _over_runs))
    return {
        group.key: _law(why_not(group, reference), own, next(over)) if own else None
        for group, own in zip(groups, whole, strict=True)
    }


def _over_runs(runs: int, rows: Sequence[_Fits]) -> list[list[Estimate]]:
    """a, b and ceiling of groups with equally many runs."""
    told = [[getattr(fit, name) for _, fit in own] for own in rows for name in ("a", "b", "ceiling")]
    estimates = iter(each_over_runs(np.array(told).reshape(-1, runs)))
    return [[*islice(estimates, 3)] for _ in rows]


def _fits(_: int, points: Sequence[_LawPoints]) -> list[LawFit | None]:
    """Of runs with equally many checkpoints."""
    pairs = np.array(points, dtype=np.float64).reshape(len(points), -1, 2)
    return fit_laws(pairs[:, :, 0], pairs[:, :, 1])


def _law(why: str, known: _Fits, over: Sequence[Estimate]) -> Law:
    total = sum(fit.total for _, fit in known)
    a, b, ceiling = over
    squares = np.concatenate([fit.residual_N for _, fit in known]) ** 2
    return Law(
        a=a,
        b=b,
        ceiling=ceiling,
        rmse=float(np.sqrt(squares.mean())),
        r2=1 - float(squares.sum()) / total if total > 0 else nan,
        points=tuple(
            tuple((h, r, e) for (h, r), e in zip(points, fit.residual_N.tolist(), strict=True))
            for points, fit in known
        ),
        applies=not why,
        why_not=why,
    )


def _law_points(record: Record) -> _LawPoints:
    return [
        (point.entropy_nats, sum(point.correct) / len(point.correct) / point.n)
        for point in sorted(record.frontier, key=lambda p: p.step)
        if point.entropy_nats is not None and point.correct
    ]
