"""The "Answer:" grader follows its published rule, oddities included."""

from __future__ import annotations

import pytest

from harness.grading.dapo import find, normalised
from harness.grading.grader import Grader


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so\nAnswer: 34", "34"),
        ("answer :  34 \nmore", "34 "),
        ("Answer: 1\nAnswer: 2", "2"),
        ("Answer: 5" + " " * 301, None),
        (r"\boxed{34}", None),
        ("The answer is 34", None),
    ],
)
def test_the_last_answer_line_of_the_last_300_characters(text: str, answer: str | None) -> None:
    assert find(text) == answer


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        ("34", "34"),
        ("x = 34", "34"),
        ("$34$", "34"),
        ("$34$ and more", "34"),
        ("1,234", "1234"),
        (r"\$1,234", "1234"),
        (r"\frac12", r"\frac{1}{2}"),
        (r"\sqrt3", r"\sqrt{3}"),
        (r"34\text{ cm}", "34"),
        (r"\boxed{34}", "34"),
        (r"90^\circ", "90"),
        ("12 square feet", "12"),
        ("0.5", "0.5"),
    ],
)
def test_minerva_normalisation(answer: str, form: str) -> None:
    assert normalised(answer) == form


@pytest.mark.parametrize(
    ("gold", "text", "verdict", "second"),
    [
        ("34", "Answer: $34$", "right", "right"),
        ("34", "Answer: 35", "wrong", "wrong"),
        ("1/2", r"Answer: 0.5", "wrong", "right"),  # strings only: this is what the rule says
        (
            "34",
            r"\boxed{34}",
            "unparsed",
            "unparsed",
        ),  # verl 0.9.1 takes the box, its earlier versions do not
        ("34", "Answer: 35\n\\boxed{34}", "wrong", "wrong"),  # in all versions the line comes first
    ],
)
def test_verdicts(gold: str, text: str, verdict: str, second: str) -> None:
    with Grader("math-dapo", workers=1) as grader:
        grade = grader.grade(gold=gold, pred=text)
    assert (grade.verdict.status, grade.second) == (verdict, second)
