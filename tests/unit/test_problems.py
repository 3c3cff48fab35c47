"""Judging many texts at once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.problems.problem import Problem, Verdict, verify_all


class OneByOne:
    name, version = "one", "1"

    def verify(self, problem: Problem, text: str) -> Verdict:
        return Verdict("right" if text == problem.answer else "wrong", text)


class Together(OneByOne):
    def __init__(self) -> None:
        self.calls = 0

    def verify_all(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Verdict]:
        self.calls += 1
        return [self.verify(p, t) for p, t in zip(problems, texts, strict=True)]


def test_many_texts_are_judged_in_order_and_together_where_the_benchmark_can() -> None:
    problems = [Problem("a", "", "1"), Problem("b", "", "2"), Problem("c", "", "3")]
    expected = [Verdict("right", "1"), Verdict("wrong", "9"), Verdict("right", "3")]
    assert verify_all(OneByOne(), problems, ["1", "9", "3"]) == expected  # type: ignore[arg-type]
    together = Together()
    assert verify_all(together, problems, ["1", "9", "3"]) == expected  # type: ignore[arg-type]
    assert together.calls == 1
    with pytest.raises(ValueError):
        verify_all(OneByOne(), problems, ["1"])  # type: ignore[arg-type]
