"""Answers of a batch's responses: read, compared within their group, clustered in rollout order, voted on.

An answer is a string, or None where the response gives none. Nothing here looks at the reference answer.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from harness.grading.extract import extract
from harness.stages.batch import Batch
from harness.stages.credit import group_size_of
from harness.stages.groups import rows_by_group

if TYPE_CHECKING:
    from torch import Tensor

#: The grader's canonical form, in which equal answers are equal strings; or the string as it was written.
ANSWER_FORMS = ("canonical", "written")
#: What a response without an answer is: a meaning of its own, or the same as all others without one.
MISSING = ("apart", "together")
Answers = Sequence[str | None]
Equivalence = Callable[[str, str], bool]


def answers_of(batch: Batch, form: str = "canonical") -> list[str | None]:
    """The final answer of each row.

    Args:
        form: of :data:`ANSWER_FORMS`. ``written`` takes the last box, else what follows "answer is", else the
            last number.

    Raises:
        ValueError: the batch has no verdicts yet, or there is no such form.
    """
    if form not in ANSWER_FORMS:
        raise ValueError(f"unknown form '{form}'; choose one of {', '.join(ANSWER_FORMS)}")
    if form == "written":
        found = [extract(text) for text in batch.texts]
        return [answer.text if answer else None for answer in found]
    if batch.verdicts is None:
        raise ValueError("the batch has no verdicts yet: yield Verify(batch) in the rollout program first")
    return [verdict.canonical for verdict in batch.verdicts]


def clustered(
    answers: Answers, group_B: Tensor, equal: Equivalence = operator.eq, *, missing: str = "apart"
) -> Tensor:
    """The cluster of each row, int64 ``[B]``: numbers of the whole batch, no two groups share one.

    Greedy, in row order: an answer joins the group's first cluster whose FIRST member it is equal to, else it
    opens one; so the outcome is defined for an ``equal`` that is not transitive, too.

    Args:
        equal: ``equal(first member, answer)``.
        missing: of :data:`MISSING`.
    """
    cluster_B, n = torch.zeros(len(answers), dtype=torch.int64), 0
    for rows in rows_by_group(group_B):
        first: list[tuple[str | None, int]] = []
        for row in rows:
            mine = answers[row]
            number = next((c for theirs, c in first if _same(theirs, mine, equal, missing)), None)
            if number is None:
                number, n = n, n + 1
                first.append((mine, number))
            cluster_B[row] = number
    return cluster_B


def _same(first: str | None, other: str | None, equal: Equivalence, missing: str) -> bool:
    if first is None or other is None:
        return first is other and missing == "together"
    return equal(first, other)


def cluster_shares(cluster_B: Tensor, group_B: Tensor) -> Tensor:
    """Size of each row's cluster over the size of its group, ``[B]`` float64."""
    size_B, total_B = (group_size_of(number_B) for number_B in (cluster_B, group_B))
    return size_B.double() / total_B.double()


def elected(answers: Answers, group_B: Tensor, *, missing_votes: bool = True) -> list[int | None]:
    """For each row a row whose answer is its group's most frequent one; of equal counts the one met first.

    Args:
        missing_votes: responses without an answer vote for having none; otherwise they do not vote, and a
            group without any answer elects None.
    """
    out: list[int | None] = [None] * len(answers)
    for rows in rows_by_group(group_B):
        voters = [row for row in rows if missing_votes or answers[row] is not None]
        count = Counter(answers[row] for row in voters)  # most_common: equal counts in the order met
        label = count.most_common(1)[0][0] if count else None
        winner = next((row for row in voters if answers[row] == label), None)
        for row in rows:
            out[row] = winner
    return out


def answer_entropy(cluster_B: Tensor, group_B: Tensor, *, eps: float = 0.0) -> Tensor:
    """-sum_C p_C ln(p_C + eps) over the clusters of each row's group, p_C their shares, ``[B]`` nats."""
    surprise_B = -(cluster_shares(cluster_B, group_B) + eps).log()
    entropy_B = torch.zeros_like(surprise_B)
    for rows in rows_by_group(group_B):  # the mean over the rows weighs each cluster by its share
        entropy_B[rows] = surprise_B[rows].mean()
    return entropy_B
