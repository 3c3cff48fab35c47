"""The spectrum of a feature matrix in two numbers: RankMe and the exponent of its power law (alpha-ReQ).

Of the eigenvalues of the covariance of centred features (arXiv 2509.23024, and its code). RankMe as first
published (arXiv 2210.02885) is of singular values of the matrix as it is: another number, and not comparable.
Shapes: N texts, D features, R ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from harness.statistics.estimators import FloatArray

#: Added to each share before the logarithm, and not taken out again by a normalisation.
EPS = 1e-7


def variance_shares(features_ND: ArrayLike, at_most: int = 2048) -> FloatArray:
    """Eigenvalues of the covariance over their total, descending, ``[R]``, R = min(at_most, N, D).

    The total is that of all of them, also of those beyond ``at_most``. Where N <= D the last of N is rounding
    noise, because centring takes a rank.

    Raises:
        ValueError: no matrix of at least two rows, values that are not finite, or rows that are all equal.
    """
    features = np.asarray(features_ND, dtype=np.float64)
    if features.ndim != 2 or len(features) < 2 or not np.isfinite(features).all():
        raise ValueError(f"features of shape {features.shape}: pass [N,D] with two texts or more, all finite")
    singular = np.linalg.svd(features - features.mean(0), compute_uv=False)
    squares = singular**2
    total = float(squares.sum())
    if total <= 0:
        raise ValueError("the features of all texts are equal; take other texts, or another model")
    return np.asarray(squares[: min(at_most, *features.shape)] / total)


def rankme(weight_R: ArrayLike, eps: float = EPS) -> float:
    """exp of the entropy of ``weight / sum + eps``: how many directions there are, in effect."""
    weight = np.asarray(weight_R, dtype=np.float64)
    q = weight / weight.sum() + eps
    inside = q[q > 0]
    return float(np.exp(-(inside * np.log(inside)).sum()))


def rankme_singular(features_ND: ArrayLike, eps: float = EPS) -> float:
    """The original RankMe: of the singular values, without centring."""
    return rankme(np.linalg.svd(np.asarray(features_ND, dtype=np.float64), compute_uv=False), eps)


@dataclass(frozen=True)
class PowerLaw:
    """share = exp(intercept) rank^-alpha; ``r2`` of log share over all but the last ten ranks (or to 500),
    ``r2_100`` up to rank 100: both start one rank behind the first that is fitted and end before ranks of
    rounding noise, NaN where none is left."""

    alpha: float
    intercept: float
    r2: float
    r2_100: float

    def at(self, rank_R: ArrayLike) -> FloatArray:
        """Shares at ranks from 1 on."""
        rank = np.asarray(rank_R, dtype=np.float64)
        return np.asarray(np.exp(self.intercept - self.alpha * np.log(rank)))


def power_law(share_R: ArrayLike, first: int = 12, last: int = 100) -> PowerLaw:
    """Least squares of log share on log rank over the ranks ``first``..``last``, each weighing 1 / rank.

    Raises:
        ValueError: fewer than two ranks, or a share of 0 among them.
    """
    share = np.asarray(share_R, dtype=np.float64)
    if not 1 <= first < last <= len(share) or share[last - 1] <= 0:
        raise ValueError(f"ranks {first} to {last} of {len(share)}: take at least two that have a variance")
    n = len(share)
    rank = np.arange(first, last + 1, dtype=np.float64)
    x, y, weight = np.log(rank), np.log(share[first - 1 : last]), 1 / rank
    middle_x, middle = (float(weight @ value) / float(weight.sum()) for value in (x, y))
    slope = float(weight @ ((x - middle_x) * (y - middle))) / float(weight @ (x - middle_x) ** 2)
    fit = PowerLaw(-slope, middle - slope * middle_x, 0.0, 0.0)
    real = int(
        (share > (n * np.finfo(np.float64).eps) ** 2 * share[0]).sum()
    )  # the others are rounding noise
    ends = min(500 if n >= 512 else n - 10, real), min(100, real)
    return PowerLaw(fit.alpha, fit.intercept, *(_r2(share, fit, first + 1, end) for end in ends))


def _r2(share_R: FloatArray, fit: PowerLaw, first: int, last: int) -> float:
    """Unweighted, of log share at the ranks ``first``..``last``."""
    share = share_R[first - 1 : max(last, 0)]
    if len(share) < 2 or share.min() <= 0:
        return float("nan")
    found = np.log(share)
    left = ((found - np.log(fit.at(np.arange(first, first + len(share))))) ** 2).sum()
    total = ((found - found.mean()) ** 2).sum()
    flat = total <= 1e-24 * float(found @ found)  # rounding alone
    return float("nan") if flat else float(1 - left / total)
