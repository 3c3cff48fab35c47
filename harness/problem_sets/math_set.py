"""A mathematics set: loaded when it is used, training rows cleaned, answers judged in worker processes."""

from __future__ import annotations

import atexit
import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from harness.grading.grader import Grader
from harness.grading.graders import GRADERS
from harness.problem_sets import rows as math_data
from harness.problem_sets.rows import LoadedRows, Part, ProblemRow, load
from harness.problems import templates
from harness.problems.problem import Problem, Verdict
from harness.problems.text import normal_answer, text_hash

if TYPE_CHECKING:
    from harness.grading.grader import Grader

#: Environment variable: ``name:digest,name:digest`` of contents that differ and are accepted all the same.
ACCEPT_VARIABLE = "ENTROBENCH_ACCEPT_DATA"
#: Share of a training set's problems, chosen by the hash of their text, that nobody trains on.
VALIDATION_SHARE = 0.03


class MathSet:
    """Base of the mathematics sets; a set is a subclass that names its files and its place on the hub.

    Class attributes:
        parts: split -> file. A part called ``train`` gives the splits ``train`` and ``validation``.
        small: few problems, so that evaluation draws many samples of each (AIME, AMC).
        overlapping: :func:`~harness.problems.text.text_hash` of training problems that are also in an
            evaluation set, word for word or nearly (``entrobench check overlap show=hashes`` finds them);
            they are left out of both splits.
    """

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    parts: ClassVar[Mapping[str, Part]]
    small: ClassVar[bool] = False
    overlapping: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, data_dir: str | None = None, accept: str = "") -> None:
        self._data_dir = data_dir
        self._accept = tuple(
            digest
            for part in (accept or os.environ.get(ACCEPT_VARIABLE, "")).split(",")
            for name, _, digest in [part.strip().partition(":")]
            if name == self.name
        )
        self._loaded: dict[str, LoadedRows] = {}
        self._problems: dict[str, tuple[Problem, ...]] = {}

    def splits(self) -> Sequence[str]:
        return tuple(s for part in self.parts for s in ((part, "validation") if part == "train" else (part,)))

    def loaded(self, part: str) -> LoadedRows:
        """All rows of ``part`` as they are in the file, with their source and digest."""
        if part not in self._loaded:
            self._loaded[part] = load(self.name, self.parts[part], self._data_dir, self._accept)
        return self._loaded[part]

    def problems(self, split: str) -> Sequence[Problem]:
        """The problems of ``split`` in the order of the file; loaded and checked on first use."""
        if split not in self.splits():
            raise ValueError(f"{self.name} has no split {split!r}; choose one of {', '.join(self.splits())}")
        if split not in self._problems:
            part = _part(split)
            rows: Sequence[ProblemRow] = self.loaded(part).rows
            if part == "train":
                rows = [row for row in self.clean(rows) if _held_out(row) == (split == "validation")]
            self._problems[split] = tuple(map(_problem, rows))
        return self._problems[split]

    def size(self, split: str) -> int | None:
        """How many problems ``split`` has, about, without reading it; None where nothing is known."""
        if split in self._problems:
            return len(self._problems[split])
        part = self.parts.get(_part(split))
        if part is None or split not in self.splits():
            return None
        return part.rows if split != "validation" else part.held_out or round(VALIDATION_SHARE * part.rows)

    def missing(self, split: str) -> str:
        """Why ``split`` cannot be read without a network; empty when it can. Loads nothing."""
        return math_data.missing(self.name, self.parts[_part(split)], self._data_dir)

    def fetch(self, split: str) -> str:
        """Make ``split`` readable without a network; returns where it is."""
        return math_data.fetch(self.name, self.parts[_part(split)], self._data_dir, self._accept)

    def clean(self, rows: Sequence[ProblemRow]) -> list[ProblemRow]:
        """Rows to train on: no problem of an evaluation set, none with two answers, none twice."""
        answers: dict[str, set[str]] = {}
        for row in rows:
            answers.setdefault(text_hash(row.problem), set()).add(normal_answer(row.answer))
        kept, seen = [], set(self.overlapping)
        for row in rows:
            key = text_hash(row.problem)
            if key not in seen and len(answers[key]) == 1 and not row.extra.get("overlaps_eval"):
                kept.append(row)
            seen.add(key)
        return kept

    def verify(self, problem: Problem, text: str) -> Verdict:
        return self.verify_all([problem], [text])[0]

    def verify_all(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Verdict]:
        """Verdicts in order; texts are judged beside each other in worker processes that can be killed."""
        verdicts: list[Verdict | None] = [None] * len(texts)
        names = [str(problem.meta.get("grader", "math-verify")) for problem in problems]
        for name in sorted(set(names)):
            chosen = [i for i, other in enumerate(names) if other == name]
            grades = _grader(name).grade_all([(problems[i].answer, texts[i]) for i in chosen])
            for i, grade in zip(chosen, grades, strict=True):
                verdicts[i] = grade.verdict
        return [verdict for verdict in verdicts if verdict is not None]

    def fingerprint(self) -> str:
        """Digest of the contents, the cleaning, the prompt and the grader; loads nothing unless it must."""
        digests = [
            self.loaded(name).digest if self._accept else part.digest for name, part in self.parts.items()
        ]
        parts = [
            self.name, self.version, *digests, str(VALIDATION_SHARE), *sorted(self.overlapping),
            templates.digest(templates.find("plain")), GRADERS["math-verify"].version,
        ]  # fmt: skip
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def _grader(name: str) -> Grader:
    """One pool of worker processes for all sets of this process."""
    grader = Grader(name, second=False)  # nobody reads a second opinion in training
    atexit.register(grader.close)
    return grader


def _part(split: str) -> str:
    """The file that a split comes from."""
    return "train" if split == "validation" else split


def _held_out(row: ProblemRow) -> bool:
    return int(text_hash(row.problem), 16) % 10_000 < VALIDATION_SHARE * 10_000


def _problem(row: ProblemRow) -> Problem:
    prompt = templates.find("plain").render(row.problem)
    return Problem(row.id, prompt, row.answer, {"question": row.problem, **row.extra})
