"""The grader as its users see it: verdicts, order, tags, canonical forms, names."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import pytest

from harness.grading.grader import Grader
from harness.grading.graders import GRADERS
from harness.util.errors import UserError


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=1) as made:
        yield made


@pytest.mark.parametrize(
    ("gold", "pred", "status"),
    [
        ("x+1", r"Hence $\boxed{1+x}$.", "right"),
        ("x+1", r"Hence $\boxed{2+x}$.", "wrong"),
        ("x+1", "I give up", "unparsed"),
        ("34", r"\boxed{34}", "right"),
        ("1.85e5", r"\boxed{1.85\times 10^5}", "right"),
        (r"\frac{1}{10^{30}}", r"\boxed{\frac{1}{10^{31}}}", "wrong"),
        (r"2\pi\cdot 10^{-20}", r"\boxed{\pi\cdot 10^{-20}}", "wrong"),
        ("4t", r"\boxed{4}", "wrong"),
    ],
)
def test_verdicts(grader: Grader, gold: str, pred: str, status: str) -> None:
    grade = grader.grade(gold=gold, pred=pred)
    assert (grade.verdict.status, grade.second) == (status, status)


def test_plain_numbers_and_equal_strings_need_no_worker() -> None:
    with Grader(workers=1) as grader:
        grades = grader.grade_all([("34", r"\boxed{34}"), ("1/2", r"\boxed{0.5}"), (r"\pi", r"\boxed{\pi}")])
        assert [grade.verdict.correct for grade in grades] == [True] * 3
        assert [grade.wall_s for grade in grades] == [0.0] * 3
        assert grader.worker_pids() == []


def test_the_fast_paths_change_no_verdict(grader: Grader) -> None:
    pairs = [
        ("34", r"\boxed{34}"),
        ("34", r"\boxed{35}"),
        ("1000", r"\boxed{1\,000}"),
        (r"\frac12", r"\boxed{0.5}"),
        ("1e-20", r"\boxed{1e-21}"),
        ("52_8", r"\boxed{52}"),
        (r"\text{east}", r"\boxed{east}"),
        ("x+y=1", r"\boxed{1}"),
        ("28%", r"\boxed{0.28}"),
    ]
    with Grader(workers=1, fast=False) as slow:
        for quick, thorough in zip(grader.grade_all(pairs), slow.grade_all(pairs), strict=True):
            assert thorough.wall_s > 0
            assert (thorough.verdict, thorough.second) == (quick.verdict, quick.second)


def test_finished_gives_every_tag_once(grader: Grader) -> None:
    for i in range(20):
        grader.submit(gold="x+7", pred=rf"\boxed{{{i}+x}}", tag=i)
    grades = dict(grader.finished(wait=True))
    assert {tag for tag, grade in grades.items() if grade.verdict.correct} == {7}
    assert len(grades) == 20
    assert list(grader.finished(wait=True)) == []


def test_finished_without_waiting_hands_out_what_there_is(grader: Grader) -> None:
    grader.submit(gold="5", pred=r"\boxed{5}", tag="quick")
    grader.submit(gold="x+1", pred=r"\boxed{1+x}", tag="slow")
    assert next(grader.finished())[0] == "quick"
    assert [tag for tag, _ in grader.finished(wait=True)] == ["slow"]


def test_grade_and_finished_do_not_take_each_others_grades(grader: Grader) -> None:
    grader.submit(gold="x+1", pred=r"\boxed{1+x}", tag="mine")
    assert grader.grade(gold="y+1", pred=r"\boxed{y}").verdict.status == "wrong"
    assert [(tag, grade.verdict.status) for tag, grade in grader.finished(wait=True)] == [("mine", "right")]


def test_right_answers_share_a_canonical_form_and_so_do_equal_wrong_ones(grader: Grader) -> None:
    right = grader.grade_all([("x+1", r"\boxed{1+x}"), ("x+1", r"\boxed{x+1}")])
    assert len({grade.verdict.canonical for grade in right}) == 1
    wrong = grader.grade_all([("x+1", r"\boxed{(x+1)^2}"), ("x+1", r"\boxed{x^2+2x+1}")])
    assert len({grade.verdict.canonical for grade in wrong}) == 1
    assert wrong[0].verdict.canonical != right[0].verdict.canonical
    assert grader.grade(gold="5", pred="no answer").verdict.canonical is None


def test_the_same_answer_is_not_graded_twice() -> None:
    with Grader(workers=1, remember=2) as grader:
        first, again = (
            grader.grade(gold="x+1", pred=rf"{words}\boxed{{1+x}}") for words in ("So ", "Hence ")
        )
        assert first.wall_s > 0 and again.wall_s == 0
        assert (first.verdict, first.second) == (again.verdict, again.second)
        for other in "abc":  # the oldest is forgotten
            grader.grade(gold="x+1", pred=rf"\boxed{{{other}+x}}")
        assert grader.grade(gold="x+1", pred=r"\boxed{1+x}").wall_s > 0


def test_a_timeout_is_not_remembered() -> None:
    with Grader(workers=1, cpu_s=0.2) as grader:
        for _ in range(2):
            grade = grader.grade(gold="7", pred=r"\boxed{10^{10^{10}}}")
            assert grade.verdict.status == "timeout" and grade.wall_s > 0


def test_without_the_second_grader() -> None:
    with Grader(workers=1, second=False) as grader:
        assert grader.grade(gold="x+1", pred=r"\boxed{1+x}").second is None
        assert grader.grade(gold="5", pred=r"\boxed{5}").second is None


def test_boxed_only_and_integer_graders() -> None:
    with Grader("math-verify-boxed", workers=1) as grader:
        assert grader.grade(gold="5", pred="The answer is 5.").verdict.status == "unparsed"
    with Grader("integer", workers=1) as grader:
        statuses = [
            grader.grade(gold="073", pred=rf"\boxed{{{p}}}").verdict.status for p in ("73", "74", "x", "73.5")
        ]
    assert statuses == ["right", "wrong", "unparsed", "unparsed"]


def test_arguments_are_keywords(grader: Grader) -> None:
    with pytest.raises(TypeError):
        grader.grade("5", r"\boxed{5}")  # type: ignore[misc]


def test_an_unknown_grader_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean math-verify"):
        Grader("math-verfy")


def test_versions_name_what_decides() -> None:
    assert "math-verify-0.9" in GRADERS["math-verify"].version
    assert GRADERS["math-dapo"].version.startswith("math-dapo/")


def test_whoever_waits_is_told_when_the_grader_is_closed() -> None:
    grader = Grader(workers=1)
    grader.submit(gold="7", pred=r"\boxed{10^{10^{10}}}")
    closer = threading.Timer(0.2, grader.close)
    closer.start()
    with pytest.raises(RuntimeError, match="closed"):
        list(grader.finished(wait=True))
    closer.join()


def test_a_forgotten_grader_ends_its_processes() -> None:
    grader = Grader(workers=1)
    assert grader.grade(gold="x+1", pred=r"\boxed{1+x}").verdict.correct
    [pid] = grader.worker_pids()
    del grader
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_closed_grader_says_so() -> None:
    grader = Grader(workers=1)
    grader.close()
    grader.close()
    with pytest.raises(RuntimeError, match="closed"):
        grader.grade(gold="x+1", pred=r"\boxed{1+x}")
