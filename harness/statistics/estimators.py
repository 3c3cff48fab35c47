"""From samples to scores: pass@k, avg@n, maj@k, distinct answers.

All estimators are unbiased over subsets of the ``n`` samples drawn for a problem; none of them
averages over problems unless its name says ``mean``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

# The exact majority vote works with binomials in float64; C(1000, 500) = 2.7e299 still fits.
_EXACT_MAX_N = 1000
_EXACT_MAX_COST = 100_000_000
# Up to here pass@k is looked up by the number of right samples: no evaluation draws more for a problem.
_TABLE_MAX_N = 1024


def _integers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind == "i":
        return array.astype(np.int64, copy=False)
    if array.size and not np.all(array == np.floor(array)):
        raise ValueError(
            f"{name} must hold whole counts, got {array.dtype} with fractions: pass counts, not rates"
        )
    return array.astype(np.int64)


def pass_at_k(n: ArrayLike, c: ArrayLike, k: int) -> FloatArray:
    """Probability that at least one of ``k`` samples, drawn without replacement from ``n``, is correct.

    ``1 - C(n-c, k) / C(n, k)``, the unbiased estimator of Chen et al. 2021 (arXiv 2107.03374), as the
    product of ``k`` ratios in [0, 1]: no factorial, no overflow, exactly 0 for ``c = 0`` and exactly 1
    for ``n - c < k``.

    Args:
        n: samples per problem, scalar or broadcastable to ``c``.
        c: correct samples per problem, any shape.
        k: how many samples the user may draw.

    Returns:
        float64 array of the broadcast shape of ``n`` and ``c`` (0-d for scalars).

    Raises:
        ValueError: ``k < 1``, ``k > n`` or ``c`` outside ``[0, n]``.
    """
    c_array = _integers("c", c)
    if isinstance(n, int) and 1 <= k <= n <= _TABLE_MAX_N and _within(n, c_array):
        return np.asarray(_pass_table(n, (k,))[0][c_array])
    return _pass_at_k(_integers("n", n), c_array, k)


def _within(n: int, c: NDArray[np.int64]) -> bool:
    """Whether all counts lie in 0..n."""
    return not c.size or bool(c.view(np.uint64).max() <= n)  # a negative count is a huge one here


def _pass_at_k(n: NDArray[np.int64], c: NDArray[np.int64], k: int) -> FloatArray:
    n_array, c_array = np.broadcast_arrays(n, c)
    if k < 1:
        raise ValueError(f"k={k}: k counts samples, ask for k >= 1")
    if n_array.size and k > n_array.min():
        raise ValueError(
            f"pass@{k} needs at least {k} samples per problem, but n={n_array.min()}: "
            f"draw more samples (n >= {2 * k} to print it) or ask for k <= {n_array.min()}"
        )
    if np.any(c_array < 0) or np.any(c_array > n_array):
        raise ValueError("c must lie in [0, n]: pass the number of correct samples among the n drawn")
    all_wrong = np.ones(n_array.shape, dtype=np.float64)
    for drawn in range(k):
        all_wrong = all_wrong * np.maximum(n_array - c_array - drawn, 0) / (n_array - drawn)
    return np.asarray(1.0 - all_wrong)


@lru_cache(maxsize=256)
def _pass_table(n: int, ks: tuple[int, ...]) -> FloatArray:
    """[K, n+1]: pass@k of a problem with 0..n correct samples; at most n+1 values exist per k."""
    table = np.stack([_pass_at_k(np.asarray(n), np.arange(n + 1), k) for k in ks])
    table.setflags(write=False)
    return table


def mean_pass_at_ks(n: int, c: ArrayLike, ks: Sequence[int]) -> FloatArray:
    """Mean over problems of pass@k for several ``ks`` at once: ``c`` [P] -> [K].

    Raises:
        ValueError: as :func:`pass_at_k`, or ``c`` is empty.
    """
    return each_mean_pass_at_ks(n, np.asarray(c).reshape(1, -1), ks)[0]


def each_mean_pass_at_ks(n: int, c_NP: ArrayLike, ks: Sequence[int]) -> FloatArray:
    """:func:`mean_pass_at_ks` of many runs or checkpoints on the same problems: [N, P] -> [N, K].

    Goes through the histogram of the counts: a look-up for each of the n + 1 that there can be.

    Raises:
        ValueError: as :func:`pass_at_k`, or there are no problems.
    """
    counts = _integers("c", c_NP)
    rows, problems = counts.shape
    if problems == 0:
        raise ValueError("no problems: a mean over problems needs at least one")
    if not ks:
        return np.zeros((rows, 0))
    table = _pass_table(int(n), tuple(map(int, ks)))
    if not _within(n, counts):
        raise ValueError(f"c must lie in [0, n={n}]: pass the number of correct samples among the n drawn")
    apart = counts + np.arange(0, rows * (n + 1), n + 1)[:, None]
    histogram = np.bincount(apart.ravel(), minlength=rows * (n + 1)).reshape(rows, n + 1).astype(np.float64)
    # row by row: a product of two matrices adds in another order, so the last bits would hang on N
    return np.asarray((table @ histogram[..., None])[..., 0]) / problems


def printable_ks(n: int, candidates: Sequence[int] = (1, 2, 4, 8, 16, 32)) -> tuple[int, ...]:
    """The ``candidates`` that may be printed from ``n`` samples per problem: those with ``n >= 2 k``.

    At ``k`` near ``n`` the estimator is a lottery of the few subsets left; half the samples is the
    project's limit.
    """
    return tuple(k for k in candidates if k >= 1 and 2 * k <= n)


def distinct_answers(answers: Sequence[str | None], correct: Sequence[bool] | None = None) -> int:
    """Number of distinct canonical answers; only among the correct ones when ``correct`` is given.

    ``None`` (no answer could be read) never counts.
    """
    if correct is None:
        return len({answer for answer in answers if answer is not None})
    pairs = zip(answers, correct, strict=True)
    return len({answer for answer, right in pairs if right and answer is not None})


@dataclass(frozen=True)
class MajorityEstimate:
    """``value`` in [0, 1]; ``standard_error`` of the Monte-Carlo draw alone, 0 when ``exact``."""

    value: float
    standard_error: float
    exact: bool


def maj_at_k(
    answers: Sequence[str | None],
    correct: Sequence[bool],
    k: int,
    *,
    method: Literal["auto", "exact", "montecarlo"] = "auto",
    draws: int = 4096,
    seed: int = 0,
) -> MajorityEstimate:
    """Probability that the majority vote of ``k`` of the ``n`` samples of one problem is correct.

    Averages over all subsets of size ``k`` (unbiased). Samples without an answer (``None``) abstain; a
    vote in which everyone abstains is wrong. A tie is broken fairly without a draw: of ``t`` answers
    with the most votes, ``r`` of them correct, the vote scores ``r / t``, the expectation of a fair coin.

    Args:
        answers: canonical answers of the ``n`` samples.
        correct: verdicts of the ``n`` samples; equal answers must have equal verdicts.
        k: voters, ``1 <= k <= n``.
        method: ``auto`` is exact unless that is too large (n > 1000 or a huge table).
        draws: Monte-Carlo subsets; ``seed`` makes them reproducible.

    Raises:
        ValueError: ``k`` out of range, contradictory verdicts, or exact counting out of reach.
    """
    n = len(answers)
    if n != len(correct):
        raise ValueError(f"{n} answers but {len(correct)} verdicts: pass one verdict per sample")
    if not 1 <= k <= n:
        raise ValueError(f"maj@{k} needs 1 <= k <= n={n}: draw more samples or ask for k <= {n}")
    verdict: dict[str, bool] = {}
    for answer, right in zip(answers, correct, strict=True):
        if answer is None:
            if right:
                raise ValueError("a correct sample without a canonical answer cannot vote: return its answer")
        elif verdict.setdefault(answer, bool(right)) != bool(right):
            raise ValueError(f"answer {answer!r} is judged both right and wrong: canonicalise it further")
    counts = Counter(answer for answer in answers if answer is not None)
    votes = [(counts[answer], verdict[answer]) for answer in sorted(counts)]
    feasible = n <= _EXACT_MAX_N and _exact_cost(votes, k) <= _EXACT_MAX_COST
    if method == "exact" and not feasible:
        raise ValueError(f"maj@{k} of n={n} is too large to count exactly: use method='montecarlo'")
    if method == "montecarlo" or not feasible:
        return _majority_montecarlo(votes, n, k, draws, seed)
    return MajorityEstimate(_majority_exact(votes, n, k), 0.0, True)


def _tie_limits(votes: list[tuple[int, bool]], top: int, k: int) -> tuple[int, int]:
    right = sum(1 for count, ok in votes if count >= top and ok)
    wrong = sum(1 for count, ok in votes if count >= top and not ok)
    return min(right, k // top), min(wrong, k // top)


def _exact_cost(votes: list[tuple[int, bool]], k: int) -> int:
    cost = 0
    for top in range(1, min(k, max((count for count, _ in votes), default=0)) + 1):
        right, wrong = _tie_limits(votes, top, k)
        cost += sum(1 for count, _ in votes if count >= top) * (top + 1) * (k + 1) * (right + 1) * (wrong + 1)
    return cost


def _majority_exact(votes: list[tuple[int, bool]], n: int, k: int) -> float:
    """Sum over the winning number of votes ``top`` of the subsets in which exactly that many win.

    The state counts subsets by (votes cast, correct answers at ``top``, wrong answers at ``top``). Answers
    with fewer than ``top`` samples can never tie, so they and the abstentions form one free pool. Only
    non-negative terms are added, hence no cancellation.
    """
    total = 0.0
    for top in range(1, min(k, max((count for count, _ in votes), default=0)) + 1):
        right, wrong = _tie_limits(votes, top, k)
        state: FloatArray = np.zeros((k + 1, right + 1, wrong + 1))
        state[0, 0, 0] = 1.0
        rivals = [(count, ok) for count, ok in votes if count >= top]
        for count, ok in rivals:
            new = np.zeros_like(state)
            for cast in range(top):
                new[cast:] += float(comb(count, cast)) * state[: k + 1 - cast]
            ways = float(comb(count, top))
            if ok:
                new[top:, 1:] += ways * state[: k + 1 - top, :-1]
            else:
                new[top:, :, 1:] += ways * state[: k + 1 - top, :, :-1]
            state = new
        pool = n - sum(count for count, _ in rivals)
        free = np.array([float(comb(pool, k - cast)) for cast in range(k + 1)])
        tied_right = np.arange(right + 1)[:, None]
        tied = np.maximum(tied_right + np.arange(wrong + 1)[None, :], 1)
        total += float((np.tensordot(free, state, axes=1) * (tied_right / tied)).sum())
    return min(1.0, total / float(comb(n, k)))


def _majority_montecarlo(
    votes: list[tuple[int, bool]], n: int, k: int, draws: int, seed: int
) -> MajorityEstimate:
    if draws < 2:
        raise ValueError(f"draws={draws}: a Monte-Carlo error needs at least 2 draws")
    abstain = len(votes)
    owner = np.full(n, abstain)
    owner[: sum(count for count, _ in votes)] = np.repeat(np.arange(abstain), [count for count, _ in votes])
    right = np.array([ok for _, ok in votes], dtype=bool)
    rng = np.random.default_rng(seed)
    scores: list[Any] = []
    for start in range(0, draws, 512):  # blocks bound the memory of the [draws, n] keys
        rows = min(512, draws - start)
        chosen = owner[np.argsort(rng.random((rows, n)), axis=1)[:, :k]]
        flat = (np.arange(rows)[:, None] * (abstain + 1) + chosen).ravel()
        cast = np.bincount(flat, minlength=rows * (abstain + 1)).reshape(rows, abstain + 1)[:, :abstain]
        top = cast.max(axis=1, keepdims=True, initial=0)
        tied = (cast == top) & (top > 0)
        scores.append((tied & right).sum(axis=1) / np.maximum(tied.sum(axis=1), 1))
    values = np.concatenate(scores)
    return MajorityEstimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(draws)), False)
