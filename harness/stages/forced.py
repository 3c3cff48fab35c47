"""An answer forced behind the beginning of a response: how likely it is there, one pass without gradient.

What is computed counts in the budget: every context once, from its prompt's end to the end of the answer.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import torch

from harness.stages.batch import Batch
from harness.stages.requests import Score
from harness.stages.token_stats import LOGP

#: Log-probs of an answer's tokens for each row and each of its cut points.
Forced = list[list[list[float]]]


def forced_answers(
    batch: Batch, cuts: Sequence[Sequence[int]], closing: Sequence[int], answers: Sequence[Sequence[int]]
) -> Generator[Any, Any, Forced]:
    """Log-probs of ``answers[row]``, forced behind ``closing`` after the first so many tokens of a response.

    Part of a rollout program: ``logp = yield from forced_answers(…)``. Equal contexts (the empty beginning,
    in every row of a group) are passed once.

    Args:
        cuts: numbers of response tokens, for each row.
        closing: tokens between the response and the answer.
        answers: at least one token each.

    Raises:
        ValueError: a cut point outside its response, or an answer without a token.
    """
    length_B = batch.length_B.tolist()
    place: dict[tuple[Any, ...], int] = {}
    rows: list[int] = []
    tails: list[list[int]] = []
    index: list[list[int]] = []
    for row, (own, answer) in enumerate(zip(cuts, answers, strict=True)):
        if not answer:
            raise ValueError(f"row {row} has an answer without a token")
        prompt = batch.prompt_BP[row][batch.prompt_mask_BP[row]].tolist()
        response = batch.response_BT[row][batch.mask_BT[row]].tolist()
        index.append([])
        for cut in own:
            if not 0 <= cut <= length_B[row]:
                raise ValueError(f"cut point {cut} lies outside a response of {length_B[row]} tokens")
            tail = [*response[:cut], *closing, *answer]
            key = (*prompt, -1, *tail)
            if key not in place:
                place[key] = len(rows)
                rows.append(row)
                tails.append(tail)
            index[-1].append(place[key])
    if not rows:
        return [[] for _ in index]
    logp_NT = (yield Score(_forced(batch.rows(rows), tails), (LOGP,)))[LOGP.name]
    return [
        [logp_NT[n, len(tails[n]) - len(answer) : len(tails[n])].tolist() for n in own]
        for own, answer in zip(index, answers, strict=True)
    ]


def _forced(batch: Batch, tails: Sequence[Sequence[int]]) -> Batch:
    """The rows' prompts with ``tails`` as responses, and nothing that belonged to the rows' own responses."""
    width = max(map(len, tails))
    response_NT = torch.zeros(len(tails), width, dtype=torch.int64)
    mask_NT = torch.zeros(len(tails), width, dtype=torch.bool)
    for n, tail in enumerate(tails):
        response_NT[n, : len(tail)] = torch.tensor(tail)
        mask_NT[n, : len(tail)] = True
    return Batch(
        prompt_BP=batch.prompt_BP, prompt_mask_BP=batch.prompt_mask_BP, response_BT=response_NT,
        mask_BT=mask_NT, group_B=batch.group_B, sample_B=torch.arange(len(tails)),
        temperature_B=batch.temperature_B, truncated_B=torch.zeros(len(tails), dtype=torch.bool),
        rollout_logp_BT=torch.zeros(len(tails), width), problems=batch.problems,
        texts=("",) * len(tails),
    )  # fmt: skip
