"""Do training problems turn up in the evaluation sets? Equal texts, and common runs of 13 words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.problem_text import text_hash

#: Length of the runs of words: as long as those of Brown et al. 2020 (arXiv 2005.14165), appendix C.
RUN = 13
# a character of a script without blanks counts as a word
_WORD = re.compile(r"[a-z0-9]+|[^\x00-\x7f]")


@dataclass(frozen=True)
class Overlap:
    """One training set against one evaluation set.

    Attributes:
        same: training problems whose text, in normal form, is that of an evaluation problem.
        same_kept: those among them that training would still see.
        runs: ids of evaluation problems that share a run of 13 words with a problem that training sees.
        problems: size of the evaluation set.
    """

    training: str
    evaluation: str
    same: int
    same_kept: int
    runs: tuple[str, ...]
    problems: int


def runs_of(text: str) -> set[str]:
    """All runs of 13 consecutive words; none of a shorter text, which only counts when it is equal."""
    words = _WORD.findall(text.lower())
    return {" ".join(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}


def compare(
    training: str,
    rows: Iterable[str],
    kept: Iterable[str],
    evaluations: Sequence[tuple[str, Sequence[tuple[str, str]]]],
) -> list[Overlap]:
    """Overlap of one training set with every evaluation set.

    Args:
        rows: texts of all training problems, as they are in the file.
        kept: texts of those that training sees.
        evaluations: (name, [(problem id, text)]).
    """
    rows, kept = [text_hash(text) for text in rows], list(kept)
    kept_hashes = [text_hash(text) for text in kept]
    seen = set().union(*map(runs_of, kept)) if kept else set()
    found = []
    for name, problems in evaluations:
        hashes = {text_hash(text) for _, text in problems}
        found.append(
            Overlap(
                training, name, sum(h in hashes for h in rows), sum(h in hashes for h in kept_hashes),
                tuple(i for i, text in problems if not seen.isdisjoint(runs_of(text))), len(problems),
            )
        )  # fmt: skip
    return found


def lines(found: Sequence[Overlap]) -> list[str]:
    """The table."""
    head = ("training", "evaluation", "equal texts", "left in", "13 words in common", "of")
    rows = [
        (o.training, o.evaluation, str(o.same), str(o.same_kept), str(len(o.runs)), str(o.problems))
        for o in found
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return [
        "  ".join([*map(str.ljust, row[:2], widths[:2]), *map(str.rjust, row[2:], widths[2:])])
        for row in [head, *rows]
    ]  # fmt: skip
