"""Ways to write an answer: right ones beside ones that only look like it. Both graders have to agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.grading.grading_here import boxed, verdicts


def rows(section: str) -> list[tuple[str, str, bool]]:
    """Reference, answer and verdict of a section of ``writings.txt``."""
    text = (Path(__file__).parent / "writings.txt").read_text(encoding="utf-8")
    lines = text.partition(f"[{section}]\n")[2].partition("\n[")[0].splitlines()
    found = []
    for gold, answers in (line.split(" => ", 1) for line in lines if line):
        good, bad = (part.strip() for part in f"{answers} ".split("!! "))
        for texts, expected in ((good, True), (bad, False)):
            found += [(gold, t.replace("⏎", "\n"), expected) for t in texts.split(" ;; ") if t]
    return found


@pytest.mark.parametrize(("gold", "answer", "expected"), rows("box"))
def test_answers_in_a_box(gold: str, answer: str, expected: bool) -> None:
    assert [said == "right" for said in boxed(gold, answer)] == [expected, expected]


@pytest.mark.parametrize(("gold", "response", "expected"), rows("response"))
def test_answers_without_a_box(gold: str, response: str, expected: bool) -> None:
    assert [said == "right" for said in verdicts(gold, response)] == [expected, expected]
