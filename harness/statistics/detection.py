"""How well a score tells members from the others, and the likeness of two sequences that such a score is.

Self-critique (arXiv 2510.09259): problems seen in RL have one way of being answered left, so the entropies of
a second answer, asked to be another one, run like those of the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.statistics.intervals import Interval

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from harness.statistics.estimators import FloatArray


def likeness(first_T: ArrayLike | None, second_T: ArrayLike | None) -> float:
    """Cosine of two sequences, the shorter one padded with zeros, times shorter over longer length.

    0 where one is empty or all zeros, NaN where one is None. Aligned by position: first with first.
    """
    if first_T is None or second_T is None:
        return float("nan")
    first, second = (np.asarray(value, dtype=np.float64) for value in (first_T, second_T))
    shared = min(len(first), len(second))
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    if shared == 0 or norms == 0:
        return 0.0
    return float(first[:shared] @ second[:shared]) / norms * shared / max(len(first), len(second))


@dataclass(frozen=True)
class Detection:
    """Members have the larger scores where it works.

    Attributes:
        auc: share of pairs (member, other) in which the member's score is larger, equal ones half.
        interval: of the AUC, members and others drawn again.
        f1: best over thresholds; youden: largest hit rate less false-alarm rate;
        hits_at_5: largest hit rate at a false-alarm rate of 5 % at most.
        members, others: with a finite score; the others are left out.
    """

    auc: float
    interval: Interval
    f1: float
    youden: float
    hits_at_5: float
    members: int
    others: int


def _finite(score_N: ArrayLike, member_N: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Scores of members and of others, without those that are not finite.

    Raises:
        ValueError: one of the two has none.
    """
    score, member = np.asarray(score_N, dtype=np.float64), np.asarray(member_N).astype(bool)
    if score.shape != member.shape or score.ndim != 1:
        raise ValueError(f"{score.shape} scores for {member.shape} labels: pass two arrays of one length")
    finite = np.isfinite(score)
    inside, outside = score[finite & member], score[finite & ~member]
    if not len(inside) or not len(outside):
        raise ValueError("members and others need a finite score each, at least one")
    return inside, outside


def roc_auc(score_N: ArrayLike, member_N: ArrayLike) -> float:
    """Area under the ROC curve, equal scores counted half; scores that are not finite are left out.

    Raises:
        ValueError: no members, or nobody else.
    """
    inside, outside = _finite(score_N, member_N)
    return float(_wins(inside, outside).mean())


def _wins(inside_M: FloatArray, outside_O: FloatArray) -> FloatArray:
    """1 where the member's score is larger, 1/2 where it is equal, ``[M,O]``."""
    difference = inside_M[:, None] - outside_O
    return (difference > 0) + 0.5 * (difference == 0)


def detection(
    score_N: ArrayLike, member_N: ArrayLike, *, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> Detection:
    """All numbers of :class:`Detection`; ``draws`` resamples make the interval.

    Raises:
        ValueError: as :func:`roc_auc`.
    """
    inside, outside = _finite(score_N, member_N)
    wins, rng = _wins(inside, outside), np.random.default_rng(seed)
    times = [rng.multinomial(n, np.full(n, 1 / n), size=draws) / n for n in wins.shape]
    again = ((times[0] @ wins) * times[1]).sum(1)
    low, high = np.quantile(again, [(1 - level) / 2, (1 + level) / 2])
    thresholds = np.unique(np.concatenate([inside, outside]))
    hits, alarms = ((value[:, None] >= thresholds).sum(0).astype(np.float64) for value in (inside, outside))
    f1 = 2 * hits / (hits + alarms + len(inside))
    rate, false = hits / len(inside), alarms / len(outside)
    return Detection(
        auc=float(wins.mean()), interval=Interval("problems", float(low), float(high), level),
        f1=float(f1.max()), youden=max(0.0, float((rate - false).max())),
        hits_at_5=float(rate[false <= 0.05].max(initial=0.0)), members=len(inside), others=len(outside),
    )  # fmt: skip
