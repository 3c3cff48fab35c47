"""What a problem set is to the rest of the harness: problems with a prompt, and a verdict on a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

VerdictStatus = Literal["right", "wrong", "unparsed", "timeout"]


@dataclass(frozen=True)
class Problem:
    """One problem as the trainer and the evaluation see it.

    ``prompt`` is the final text given to the policy (template applied), ``answer`` the reference
    answer where there is a single one, ``meta`` whatever the verifier needs. ``solution`` is a right response
    where the problem set knows one; no verdict and no fingerprint depends on it.
    """

    id: str
    prompt: str
    answer: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    solution: str = ""


@dataclass(frozen=True)
class Verdict:
    """Outcome of verifying one response.

    ``canonical`` is the parsed answer in canonical form (equal answers compare equal), used for
    maj@k and for counting distinct answers; ``None`` when no answer could be read.
    """

    status: VerdictStatus
    canonical: str | None = None

    @property
    def correct(self) -> bool:
        return self.status == "right"


@runtime_checkable
class Benchmark(Protocol):
    """A family of problem splits with one verifier."""

    name: str
    version: str

    def splits(self) -> Sequence[str]:
        """Names of the splits, e.g. ``("train", "validation", "test_id", "test_hard", "test_ood")``."""

    def problems(self, split: str) -> Sequence[Problem]:
        """All problems of ``split`` in a fixed order.

        Raises:
            ValueError: ``split`` is not one of :meth:`splits`; the message names them.
        """

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Judge ``text`` (the response without the prompt); never raises on any text."""

    def fingerprint(self) -> str:
        """Hex digest of everything that influences the numbers (problems, verifier version)."""


def demonstration_of(benchmark: Benchmark, problem: Problem) -> str | None:
    """A right answer to ``problem`` that the benchmark itself has (``demonstration(problem)``), or None."""
    own = getattr(benchmark, "demonstration", None)
    return own(problem) if own is not None else None


def verify_all(benchmark: Benchmark, problems: Sequence[Problem], texts: Sequence[str]) -> list[Verdict]:
    """Judge ``texts[i]`` as a response to ``problems[i]``, in order.

    A benchmark that can judge many texts at once (in worker processes, say) offers ``verify_all(problems,
    texts)``; one that cannot is asked text by text.
    """
    together = getattr(benchmark, "verify_all", None)
    if together is not None:
        verdicts: list[Verdict] = together(problems, texts)
        return verdicts
    return [benchmark.verify(problem, text) for problem, text in zip(problems, texts, strict=True)]
