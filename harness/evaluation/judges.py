"""Who judges the samples: worker processes for maths answers, or the benchmark's own verifier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from harness.problems.problem import Benchmark, Problem, Verdict

if TYPE_CHECKING:
    from harness.grading.grader import Grader


class Judge(Protocol):
    """Takes texts and hands back verdicts; never keeps who submits waiting for one."""

    def submit(self, problem: Problem, text: str, tag: Any) -> None: ...

    def finished(self, *, wait: bool = False) -> Iterator[tuple[Any, Verdict, str]]:
        """(tag, verdict, second grader's verdict) of what is judged; all of it with ``wait``."""


class PoolJudge:
    """The grader's worker processes."""

    def __init__(self, grader: Grader) -> None:
        self._grader = grader

    def submit(self, problem: Problem, text: str, tag: Any) -> None:
        self._grader.submit(gold=problem.answer, pred=text, tag=tag)

    def finished(self, *, wait: bool = False) -> Iterator[tuple[Any, Verdict, str]]:
        for tag, grade in self._grader.finished(wait=wait):
            yield tag, grade.verdict, grade.second or ""


class OwnJudge:
    """The benchmark's own verifier, for sets without a single reference answer; it has no second opinion."""

    def __init__(self, benchmark: Benchmark) -> None:
        self._benchmark = benchmark
        self._done: list[tuple[Any, Verdict, str]] = []

    def submit(self, problem: Problem, text: str, tag: Any) -> None:
        self._done.append((tag, self._benchmark.verify(problem, text), ""))

    def finished(self, *, wait: bool = False) -> Iterator[tuple[Any, Verdict, str]]:
        done, self._done = self._done, []
        yield from done
