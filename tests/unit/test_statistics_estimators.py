"""Estimators against brute-force enumeration of all subsets."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.statistics import (
    distinct_answers,
    maj_at_k,
    mean_pass_at_ks,
    pass_at_k,
    printable_ks,
)


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int, int]:
    n = draw(st.integers(1, 9))
    return n, draw(st.integers(0, n)), draw(st.integers(1, n))


@given(counts())
@settings(max_examples=80, deadline=None)
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(case: tuple[int, int, int]) -> None:
    n, c, k = case
    subsets = list(combinations([True] * c + [False] * (n - c), k))
    assert float(pass_at_k(n, c, k)) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-12)


def test_pass_at_k_is_exact_at_the_ends_and_stable_for_many_samples() -> None:
    assert pass_at_k(4096, [0, 1, 4096], 2048).tolist() == [0.0, pytest.approx(0.5), 1.0]
    assert pass_at_k([4, 8], [[1], [2]], 2).shape == (2, 2)
    assert float(pass_at_k(64, 33, 32)) == 1.0
    small = float(pass_at_k(10_000, 1, 3))
    assert small == pytest.approx(3 / 10_000, rel=1e-10)


@given(st.integers(2, 80).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
@settings(max_examples=40, deadline=None)
def test_pass_at_k_grows_with_k(case: tuple[int, int]) -> None:
    n, c = case
    curve = mean_pass_at_ks(n, [c], range(1, n + 1))
    assert np.all(np.diff(curve) >= -1e-12)
    assert curve[0] == pytest.approx(c / n)


def test_mean_over_problems_equals_the_plain_mean() -> None:
    c = np.random.default_rng(0).integers(0, 65, size=50)
    expected = [pass_at_k(64, c, k).mean() for k in (1, 8, 32)]
    assert mean_pass_at_ks(64, c, (1, 8, 32)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("n", "c", "k", "message"),
    [
        (4, 1, 5, "draw more samples"),
        (4, 5, 2, r"\[0, n\]"),
        (4, 1, 0, "k >= 1"),
        (4, 0.25, 2, "counts, not rates"),
    ],
)
def test_bad_counts_are_refused_with_the_remedy(n: int, c: float, k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pass_at_k(n, c, k)


def test_printed_k_needs_twice_as_many_samples() -> None:
    assert printable_ks(64) == (1, 2, 4, 8, 16, 32)
    assert printable_ks(63) == (1, 2, 4, 8, 16)
    assert printable_ks(1) == ()


def _vote(chosen: tuple[tuple[str | None, bool], ...]) -> Fraction:
    votes = Counter(answer for answer, _ in chosen if answer is not None)
    if not votes:
        return Fraction(0)
    verdict = dict(chosen)
    tied = [answer for answer, count in votes.items() if count == max(votes.values())]
    return Fraction(sum(verdict[answer] for answer in tied), len(tied))


ANSWERS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", None]), min_size=1, max_size=8)


@given(ANSWERS, st.sets(st.sampled_from("abcde")), st.data())
@settings(max_examples=120, deadline=None)
def test_exact_majority_equals_enumeration(
    answers: list[str | None], right: set[str], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(answers)))
    correct = [answer in right for answer in answers]
    subsets = list(combinations(zip(answers, correct, strict=True), k))
    expected = float(sum(map(_vote, subsets), Fraction(0)) / len(subsets))
    estimate = maj_at_k(answers, correct, k)
    assert estimate.exact and estimate.standard_error == 0.0
    assert estimate.value == pytest.approx(expected, abs=1e-12)


def test_majority_montecarlo_states_its_error_and_is_reproducible() -> None:
    rng = np.random.default_rng(3)
    answers = [None if a == 9 else str(a) for a in rng.choice(10, size=64, p=[0.25, 0.2] + [0.06875] * 8)]
    correct = [a == "0" for a in answers]
    exact = maj_at_k(answers, correct, 16)
    drawn = maj_at_k(answers, correct, 16, method="montecarlo", seed=1)
    assert drawn == maj_at_k(answers, correct, 16, method="montecarlo", seed=1)
    assert not drawn.exact and 0 < drawn.standard_error < 0.01
    assert abs(drawn.value - exact.value) < 4 * drawn.standard_error
    assert not maj_at_k(["a", "b"] * 600, [True, False] * 600, 3, draws=64).exact


def test_majority_with_one_voter_is_pass_at_1_and_refuses_contradictions() -> None:
    assert maj_at_k(["a", "a", "b", None], [True, True, False, False], 1).value == pytest.approx(0.5)
    assert maj_at_k([None, None], [False, False], 2).value == 0.0
    assert maj_at_k([None, None], [False, False], 2, method="montecarlo").value == 0.0
    with pytest.raises(ValueError, match="both right and wrong"):
        maj_at_k(["a", "a"], [True, False], 1)
    with pytest.raises(ValueError, match="canonical"):
        maj_at_k([None], [True], 1)
    with pytest.raises(ValueError, match="draw more"):
        maj_at_k(["a"], [True], 2)


def test_distinct_answers() -> None:
    assert distinct_answers(["a", "a", "b", None]) == 2
    assert distinct_answers(["a", "a", "b", None], [True, True, False, False]) == 1
