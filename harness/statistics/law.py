"""R = -a exp(H) + b: validation score against policy entropy (arXiv 2505.22617, eq. 6), and its uncertainty.

The paper does not say how it fits; here it is ordinary least squares in ``(exp H, 1)``, ``a`` unbounded.
The law is about training in which nothing holds the entropy up; elsewhere a fit is only a description.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from harness.statistics.intervals import MIN_SEEDS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from harness.statistics.estimators import FloatArray

#: Points of one run below which a line through them says nothing.
MIN_POINTS = 3


@dataclass(frozen=True)
class LawFit:
    """``rmse`` is the population root mean square of ``residual_N`` (R minus fit), in the unit of R.

    ``total`` is the sum of squares of R about its mean.
    """

    a: float
    b: float
    residual_N: FloatArray
    rmse: float
    r2: float
    total: float = 0.0

    @property
    def ceiling(self) -> float:
        """R at H = 0, where entropy is spent."""
        return self.b - self.a

    def at(self, entropy: ArrayLike) -> FloatArray:
        """R at the given entropies, nats."""
        return np.asarray(self.b - self.a * np.exp(np.asarray(entropy, dtype=np.float64)))


def fit_law(entropy_N: ArrayLike, score_N: ArrayLike, least: int = MIN_POINTS) -> LawFit | None:
    """Least squares over the points; None for fewer than ``least``, or where the entropy does not vary.

    Args:
        entropy_N: H, nats per token, of the training rollouts.
        score_N: R, in any unit.
        least: two points give the line through them, which says nothing.
    """
    entropy = np.asarray(entropy_N, dtype=np.float64)
    score = np.asarray(score_N, dtype=np.float64)
    if entropy.shape != score.shape or entropy.ndim != 1:
        raise ValueError(f"{entropy.shape} entropies for {score.shape} scores: pass two arrays of one length")
    return fit_laws(entropy[None], score[None], least)[0]


def fit_laws(entropy_RN: FloatArray, score_RN: FloatArray, least: int = MIN_POINTS) -> list[LawFit | None]:
    """:func:`fit_law` of R runs with N points each."""
    x = np.exp(entropy_RN)
    points = x.shape[1]
    if points < max(least, 2):
        return [None] * len(x)
    middle_x, middle = x.mean(axis=1, keepdims=True), score_RN.mean(axis=1, keepdims=True)
    inner, away = x - middle_x, score_RN - middle
    spread = _dot(inner, inner)
    varies = spread > 1e-12 * _dot(x, x)
    slope = _dot(inner, away) / np.where(varies, spread, 1.0)
    b = middle - slope * middle_x
    residual = score_RN - (slope * x + b)
    squares, total = _dot(residual, residual), (away**2).sum(axis=1, keepdims=True)
    r2 = np.where(total > 0, 1 - squares / np.where(total > 0, total, 1.0), np.nan)
    told = np.concatenate([-slope, b, np.sqrt(squares / points), r2, total], axis=1).tolist()
    return [
        LawFit(a, b, own_N, *more) if known else None
        for (a, b, *more), own_N, known in zip(told, residual, varies[:, 0].tolist(), strict=True)
    ]


def _dot(a_RN: FloatArray, b_RN: FloatArray) -> FloatArray:
    """[R, 1] product of each two rows, to the bit what that of the two alone is."""
    return np.asarray((a_RN[:, None, :] @ b_RN[:, :, None])[..., 0])


def early_points(n: int, share: float = 0.15) -> int:
    """How many of ``n`` points, in training order, are the first ``share``; half a point goes to the even."""
    return round(share * n)


def predict_end(entropy_N: ArrayLike, score_N: ArrayLike, share: float = 0.15) -> tuple[float, int] | None:
    """R at the last H by a fit of the first ``share`` of the points, in training order, and their number."""
    entropy, score = np.asarray(entropy_N, dtype=np.float64), np.asarray(score_N, dtype=np.float64)
    n = early_points(len(entropy), share)
    early = fit_law(entropy[:n], score[:n])
    return None if early is None else (float(early.at(entropy[-1])), n)


@dataclass(frozen=True)
class Estimate:
    """Mean over runs, and a Student t interval over them; ``low`` and ``high`` are None under three runs."""

    value: float
    low: float | None
    high: float | None


def over_runs(values_S: Sequence[float], level: float = 0.95) -> Estimate:
    """The mean of one value a run. Points of one run hang together, so only runs are counted."""
    return each_over_runs([values_S], level)[0]


def each_over_runs(values_QS: ArrayLike, level: float = 0.95) -> list[Estimate]:
    """:func:`over_runs` of several quantities of the same runs."""
    values = np.asarray(values_QS, dtype=np.float64)
    means, runs = values.mean(axis=1), values.shape[1]
    if runs < MIN_SEEDS:
        return [Estimate(mean, None, None) for mean in means.tolist()]
    half = _t_quantile(runs - 1, (1 + level) / 2) * values.std(axis=1, ddof=1) / np.sqrt(runs)
    ends = (means, means - half, means + half)
    return [Estimate(*told) for told in zip(*(end.tolist() for end in ends), strict=True)]


@lru_cache
def _t_quantile(df: int, share: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, share))
