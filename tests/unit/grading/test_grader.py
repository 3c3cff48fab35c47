"""The grader as its users see it: verdicts, order, tags, limits, threads, processes that end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.errors import UserError
from harness.grading import GRADERS, Grader


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=1) as made:
        yield made


def test_symbolic_verdicts(grader: Grader) -> None:
    assert grader.grade(gold="x+1", pred=r"Hence $\boxed{1+x}$.").verdict.status == "right"
    assert grader.grade(gold="x+1", pred=r"Hence $\boxed{2+x}$.").verdict.status == "wrong"
    assert grader.grade(gold="x+1", pred="I give up").verdict.status == "unparsed"


def test_a_bomb_is_a_timeout_and_the_next_answer_is_graded(grader: Grader) -> None:
    grades = grader.grade_all([("7", r"\boxed{10^{10^{10}}}"), ("x+1", r"\boxed{1+x}")])
    assert [grade.verdict.status for grade in grades] == ["timeout", "right"]


def test_finished_gives_every_tag_once(grader: Grader) -> None:
    for i in range(20):
        grader.submit(gold="x+7", pred=rf"\boxed{{{i}+x}}", tag=i)
    grades = dict(grader.finished(wait=True))
    assert {tag for tag, grade in grades.items() if grade.verdict.correct} == {7}
    assert len(grades) == 20


def test_an_unknown_grader_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean math-verify"):
        Grader("math-verfy")


def test_versions_name_what_decides() -> None:
    assert "math-verify-0.9" in GRADERS["math-verify"].version
    assert "math-dapo" in GRADERS["math-dapo"].version
