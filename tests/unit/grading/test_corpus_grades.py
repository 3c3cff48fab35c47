"""Both graders on the corpus: hardly a right answer refused, and no wrong one accepted."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from harness.grading.conformance import ConformanceOutcome, run
from harness.grading.grader import Grader
from tests.unit.grading.corpus.corpus import cases, real_cases


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=2) as made:
        yield made


def graded(chosen: list[object], grader: Grader) -> list[ConformanceOutcome]:
    return run([case.conformance() for case in chosen], grader, threads=2)  # type: ignore[attr-defined]


def check(outcomes: list[ConformanceOutcome]) -> None:
    """At least 99 % right, none wrongly accepted by either grader, none late."""
    assert [o.case.response for o in outcomes if o.error or o.late] == []
    for second in (False, True):
        missed = [o for o in outcomes if (o.second_right if second else o.right) is False]
        assert [(o.case.gold, o.case.response) for o in missed if o.case.expected is False] == []
        assert len(missed) <= 0.01 * len(outcomes), [(o.case.gold, o.case.response) for o in missed]


def test_the_own_corpus(grader: Grader) -> None:
    check(graded(cases(), grader))  # type: ignore[arg-type]


def test_the_real_references(grader: Grader) -> None:
    if not os.environ.get("ENTROBENCH_DATA"):
        pytest.skip("ENTROBENCH_DATA is not set, so the references of the real sets are not tried")
    check(graded(real_cases(), grader))  # type: ignore[arg-type]
