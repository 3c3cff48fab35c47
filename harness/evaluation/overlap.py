"""Do training problems turn up in the evaluation sets? Equal texts, near copies, common runs of 13 words."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from harness.problems.text import normal_answer, text_hash

#: Length of the runs of words: that of Brown et al. 2020 (arXiv 2005.14165), appendix C.
RUN = 13
#: A training problem with this share of an evaluation problem's runs, and its answer, is a near copy.
NEAR_SHARE = 0.5
# a character of a script without blanks counts as a word
_WORD = re.compile(r"[a-z0-9]+|[^\x00-\x7f]")


@dataclass(frozen=True)
class Text:
    """A problem as far as overlap is concerned."""

    id: str
    problem: str
    answer: str


@dataclass(frozen=True)
class Overlap:
    """One training set against one evaluation set of ``problems`` problems.

    Attributes:
        equal: hashes of training problems whose text, in normal form, is that of an evaluation problem.
        near: hashes of training problems with half of the runs of 13 words of an evaluation problem and the
            same answer: the same problem in slightly other words.
        left: ids of evaluation problems of which training still sees an equal text or a near copy.
        runs: ids of evaluation problems with at least one run of 13 words in a problem that training sees.
            Most are turns of phrase: "m/n where m and n are relatively prime positive integers find m n".
    """

    training: str
    evaluation: str
    equal: frozenset[str]
    near: frozenset[str]
    left: tuple[str, ...]
    runs: tuple[str, ...]
    problems: int


def runs_of(text: str) -> set[str]:
    """All runs of 13 consecutive words; none of a shorter text, which only counts when it is equal."""
    words = _WORD.findall(text.lower())
    return {" ".join(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}


class TrainingTexts:
    """An index of a training set's texts: all rows of its file, and which of them training sees."""

    def __init__(self, name: str, rows: Sequence[Text], kept: Sequence[str]) -> None:
        self.name = name
        self._rows = [(text_hash(row.problem), normal_answer(row.answer)) for row in rows]
        self._kept = {text_hash(problem) for problem in kept}
        self._with_run: dict[str, list[int]] = defaultdict(list)
        for i, row in enumerate(rows):
            for run in runs_of(row.problem):
                self._with_run[run].append(i)

    def compare(self, name: str, problems: Sequence[Text]) -> Overlap:
        """Overlap with the evaluation set ``name``."""
        all_hashes = {key for key, _ in self._rows}
        equal, near, left, touched = set(), set(), [], []
        for problem in problems:
            same = {text_hash(problem.problem)} & all_hashes
            close, seen = self._near(problem)
            equal |= same
            near |= close - same
            if (same | close) & self._kept:
                left.append(problem.id)
            if seen:
                touched.append(problem.id)
        return Overlap(
            self.name,
            name,
            frozenset(equal),
            frozenset(near - equal),
            tuple(left),
            tuple(touched),
            len(problems),
        )

    def _near(self, problem: Text) -> tuple[set[str], bool]:
        """Hashes of near copies; whether training sees any run of the problem."""
        runs, answer = runs_of(problem.problem), normal_answer(problem.answer)
        shared = Counter(i for run in runs for i in self._with_run.get(run, ()))
        close = {
            self._rows[i][0]
            for i, count in shared.items()
            if count >= NEAR_SHARE * len(runs) and self._rows[i][1] == answer
        }
        return close, any(self._rows[i][0] in self._kept for i in shared)


def lines(found: Sequence[Overlap]) -> list[str]:
    """The table: training rows that are equal or near copies, then evaluation problems."""
    head = ("training", "evaluation", "equal", "near copies", "left in", "13 words", "of")
    rows = [
        (o.training, o.evaluation, *(str(len(x)) for x in (o.equal, o.near, o.left, o.runs)), str(o.problems))
        for o in found
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return [
        "  ".join([*map(str.ljust, row[:2], widths[:2]), *map(str.rjust, row[2:], widths[2:])])
        for row in [head, *rows]
    ]
