"""Rollouts packed into rows: each prompt once with its responses behind it, and next to no padding.

A response token attends to its prompt and to its own response only, and its position counts from the start of
its prompt, so a packed forward pass gives the numbers of an unpacked one for less work. Shape letters: ``R``
packed rows of ``L`` tokens, ``N`` response tokens (the order of ``mask_BT.nonzero()``), ``M`` prompt tokens
that have a log-prob.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.stages.batch import Batch

#: A row holds at least this many tokens: shorter ones would leave a processor idle.
MIN_ROW_TOKENS = 128
#: Segment of a prompt's tokens, which every response of its block may see, and of what fills a row up.
_PROMPT, _FILL = -1, -2


@dataclass(frozen=True)
class Packed:
    """Model inputs, and where to find each token's prediction in the flattened output.

    Attributes:
        ids_RL: token ids; the last token of a response is left out, since nothing follows it.
        position_RL: positions within prompt and response.
        mask_R1LL: true where the query (second last) may attend to the key (last).
        response_at_N: index into the ``R * L`` hidden states that predicts each response token.
        prompt_at_M: the same for prompt tokens but each row's first, in row-major order.
    """

    ids_RL: Tensor
    position_RL: Tensor
    mask_R1LL: Tensor
    response_at_N: Tensor
    prompt_at_M: Tensor


@dataclass
class _Block:
    """A prompt and those of its responses that stand in one row."""

    prompt: np.ndarray
    rows: list[int]
    size: int
    place: tuple[int, int] = (0, 0)


def pack(batch: Batch) -> Packed:
    """``batch`` as packed rows; a row is as long as the longest rollout, at least :data:`MIN_ROW_TOKENS`."""
    prompts = _rows(batch.prompt_BP, batch.prompt_mask_BP)
    responses = _rows(batch.response_BT, batch.mask_BT)
    fed = [max(len(r) - 1, 0) for r in responses]
    longest = max(len(p) + n for p, n in zip(prompts, fed, strict=True))
    blocks = _blocks(prompts, fed, max(longest, MIN_ROW_TOKENS))
    rows, width = _place(blocks, max(longest, MIN_ROW_TOKENS))
    ids = np.zeros((rows, width), np.int64)
    position = np.zeros((rows, width), np.int64)
    block_of = np.full((rows, width), -1, np.int64)
    segment = np.full((rows, width), _FILL, np.int64)
    prompt_start, response_start = np.zeros((2, len(prompts)), np.int64)
    for number, block in enumerate(blocks):
        row, at = block.place
        length = len(block.prompt)
        here = slice(at, at + length)
        ids[row, here], position[row, here], segment[row, here] = block.prompt, np.arange(length), _PROMPT
        end = at + length
        for b in block.rows:
            prompt_start[b], response_start[b] = row * width + at, row * width + end
            there = slice(end, end + fed[b])
            ids[row, there] = responses[b][: fed[b]]
            position[row, there] = np.arange(length, length + fed[b])
            segment[row, there] = b
            end += fed[b]
        block_of[row, at:end] = number
    return Packed(
        torch.from_numpy(ids),
        torch.from_numpy(position),
        _mask(torch.from_numpy(block_of), torch.from_numpy(segment)),
        torch.from_numpy(_predictors(prompts, responses, prompt_start, response_start)),
        torch.from_numpy(
            np.concatenate([s + np.arange(len(p) - 1) for p, s in zip(prompts, prompt_start, strict=True)])
        ),
    )


def _rows(ids_BX: Tensor, mask_BX: Tensor) -> list[np.ndarray]:
    ids, mask = ids_BX.numpy(), mask_BX.numpy()
    return [i[m] for i, m in zip(ids, mask, strict=True)]


def _blocks(prompts: Sequence[np.ndarray], fed: Sequence[int], capacity: int) -> list[_Block]:
    """Responses by prompt, in the batch's order; a prompt whose responses fill a row starts another."""
    open_: dict[bytes, _Block] = {}
    blocks = []
    for b, prompt in enumerate(prompts):
        block = open_.get(prompt.tobytes())
        if block is None or block.size + fed[b] > capacity:
            block = open_[prompt.tobytes()] = _Block(prompt, [], len(prompt))
            blocks.append(block)
        block.rows.append(b)
        block.size += fed[b]
    return blocks


def _place(blocks: list[_Block], capacity: int) -> tuple[int, int]:
    """Into as few rows as first fit needs, and those as even as it can make them; returns rows and width."""
    largest_first = sorted(blocks, key=lambda b: -b.size)
    fewest = _first_fit(largest_first, capacity)
    total = sum(b.size for b in blocks)
    width = max(-(-total // fewest), largest_first[0].size)
    while _first_fit(largest_first, width) > fewest:
        width = min(capacity, width + max(1, width // 64))
    return fewest, max(b.place[1] + b.size for b in blocks)


def _first_fit(blocks: Sequence[_Block], capacity: int) -> int:
    """Give each block the first row that has room for it; returns how many rows there are."""
    used: list[int] = []
    for block in blocks:
        row = next((r for r, u in enumerate(used) if u + block.size <= capacity), len(used))
        if row == len(used):
            used.append(0)
        block.place = (row, used[row])
        used[row] += block.size
    return len(used)


def _mask(block_RL: Tensor, segment_RL: Tensor) -> Tensor:
    """Causal, to the block's prompt or the own response; fill sees fill, so that no softmax is empty."""
    query, key = segment_RL[:, :, None], segment_RL[:, None, :]
    same_block = block_RL[:, :, None] == block_RL[:, None, :]
    width = block_RL.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    return (same_block & causal & ((key == _PROMPT) | (key == query)))[:, None]


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
