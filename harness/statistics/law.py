"""R = -a exp(H) + b: validation score against policy entropy (arXiv 2505.22617, eq. 6), and its uncertainty.

The paper does not say how it fits; here it is ordinary least squares in ``(exp H, 1)``, ``a`` unbounded.
The law is about training in which nothing holds the entropy up; elsewhere a fit is only a description.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    """``rmse`` is the population root mean square of ``residual_N`` (R minus fit), in the unit of R."""

    a: float
    b: float
    residual_N: FloatArray
    rmse: float
    r2: float

    @property
    def ceiling(self) -> float:
        """R at H = 0, where entropy is spent."""
        return self.b - self.a

    def at(self, entropy: ArrayLike) -> FloatArray:
        """R at the given entropies, nats."""
        return np.asarray(self.b - self.a * np.exp(np.asarray(entropy, dtype=np.float64)))


def fit_law(entropy_N: ArrayLike, score_N: ArrayLike) -> LawFit | None:
    """Least squares over the points; None for fewer than three, or where the entropy does not vary.

    Args:
        entropy_N: H, nats per token, of the training rollouts.
        score_N: R, in any unit.
    """
    entropy = np.asarray(entropy_N, dtype=np.float64)
    score = np.asarray(score_N, dtype=np.float64)
    if entropy.shape != score.shape or entropy.ndim != 1:
        raise ValueError(f"{entropy.shape} entropies for {score.shape} scores: pass two arrays of one length")
    x = np.exp(entropy)
    if len(x) < MIN_POINTS:
        return None
    middle_x, middle = x.mean(), score.mean()
    inner, away = x - middle_x, score - middle
    spread = float(inner @ inner)
    if spread <= 1e-12 * float(x @ x):
        return None
    slope = float(inner @ away) / spread
    b = float(middle - slope * middle_x)
    residual = score - (slope * x + b)
    total = float((away**2).sum())
    squares = float(residual @ residual)
    r2 = 1 - squares / total if total > 0 else float("nan")
    return LawFit(-slope, b, residual, float(np.sqrt(squares / len(x))), r2)


def predict_end(entropy_N: ArrayLike, score_N: ArrayLike, share: float = 0.15) -> tuple[float, int] | None:
    """R at the last H by a fit of the first ``share`` of the points, in training order, and their number."""
    entropy, score = np.asarray(entropy_N, dtype=np.float64), np.asarray(score_N, dtype=np.float64)
    n = round(share * len(entropy))
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
    values = np.asarray(values_S, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < MIN_SEEDS:
        return Estimate(mean, None, None)
    from scipy.special import stdtrit

    half = float(stdtrit(len(values) - 1, (1 + level) / 2) * values.std(ddof=1) / np.sqrt(len(values)))
    return Estimate(mean, mean - half, mean + half)
