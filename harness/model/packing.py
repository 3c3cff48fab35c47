"""Rollouts packed into one row: each prompt once, its responses behind all prompts, and no padding.

A response token attends to its prompt and to its own response only (:mod:`harness.model.attention`), and its
position counts from the start of its prompt, so a packed forward pass gives the numbers of an unpacked one
for less work. Shape letters: ``L`` tokens of the row, ``N`` response tokens (the order of
``mask_BT.nonzero()``), ``M`` prompt tokens that have a log-prob.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.model.attention import Layout, layout_of
from harness.stages.batch import Batch


@dataclass(frozen=True)
class Packed:
    """Model inputs, and where to find each token's prediction among the hidden states.

    Attributes:
        ids_1L: token ids; the last token of a response is left out, since nothing follows it.
        position_1L: positions within prompt and response.
        layout: who attends to whom.
        response_at_N: index of the hidden state that predicts each response token.
        prompt_at_M: the same for prompt tokens but each row's first, row by row.
    """

    ids_1L: Tensor
    position_1L: Tensor
    layout: Layout
    response_at_N: Tensor
    prompt_at_M: Tensor


def pack(batch: Batch) -> Packed:
    """``batch`` as one row: every different prompt once, then the responses, prompt by prompt."""
    texts = _rows(batch.prompt_BP, batch.prompt_mask_BP)
    responses = _rows(batch.response_BT, batch.mask_BT)
    fed = np.array([max(len(r) - 1, 0) for r in responses])
    rows_of: dict[bytes, list[int]] = {}
    for row, text in enumerate(texts):
        rows_of.setdefault(text.tobytes(), []).append(row)
    groups = list(rows_of.values())
    order = np.array([row for rows in groups for row in rows])
    prompts = [texts[rows[0]] for rows in groups]
    lengths = np.array([len(prompt) for prompt in prompts])

    starts = np.cumsum(lengths) - lengths
    number = np.repeat(np.arange(len(groups)), [len(rows) for rows in groups])
    prompt_start, response_start = np.zeros((2, len(texts)), np.int64)
    prompt_start[order] = starts[number]
    behind = int(lengths.sum())
    response_start[order] = behind + np.cumsum(fed[order]) - fed[order]

    ids = np.concatenate([*prompts, *(responses[row][: fed[row]] for row in order)])
    position = np.concatenate(
        [np.arange(n) for n in lengths]
        + [np.arange(len(texts[row]), len(texts[row]) + fed[row]) for row in order]
    )
    return Packed(
        torch.from_numpy(ids)[None],
        torch.from_numpy(position)[None],
        layout_of(lengths.tolist(), [fed[rows].tolist() for rows in groups]),
        torch.from_numpy(_predictors(texts, responses, prompt_start, response_start)),
        torch.from_numpy(
            np.concatenate([s + np.arange(len(t) - 1) for t, s in zip(texts, prompt_start, strict=True)])
        ),
    )


def packed_tokens(batch: Batch) -> int:
    """Tokens of the row that :func:`pack` would make."""
    prompts = {text.tobytes(): len(text) for text in _rows(batch.prompt_BP, batch.prompt_mask_BP)}
    return sum(prompts.values()) + int((batch.length_B - 1).clamp(min=0).sum())


def row_lengths(batch: Batch) -> tuple[list[int], list[int]]:
    """Tokens of each row, and those it shares with the row before it: its prompt, if that is the same."""
    prompt_B = batch.prompt_mask_BP.sum(1)
    alike_B = (batch.prompt_BP * batch.prompt_mask_BP).diff(dim=0).eq(0).all(1)
    alike_B &= batch.prompt_mask_BP.long().diff(dim=0).eq(0).all(1)
    shared = torch.where(alike_B, prompt_B[1:], 0).tolist()
    return (batch.length_B + prompt_B).tolist(), [0, *shared]


def _rows(ids_BX: Tensor, mask_BX: Tensor) -> list[np.ndarray]:
    ids, mask = ids_BX.numpy(), mask_BX.numpy()
    return [i[m] for i, m in zip(ids, mask, strict=True)]


def _predictors(
    prompts: Sequence[np.ndarray],
    responses: Sequence[np.ndarray],
    prompt_start: np.ndarray,
    response_start: np.ndarray,
) -> np.ndarray:
    """The last prompt token predicts the first response token, each response token the one behind it."""
    parts = []
    for b, response in enumerate(responses):
        at = response_start[b] - 1 + np.arange(len(response))
        if len(response):
            at[0] = prompt_start[b] + len(prompts[b]) - 1
        parts.append(at)
    return np.concatenate(parts)
