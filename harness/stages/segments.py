"""Where the text of a response is cut: into steps, and by the mark that ends a model's thinking.

Tokens are read one by one. A mark is found whether it is one token, special or not, or spread over several;
steps are cut in what the verifier reads, without special tokens.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import torch

from harness.stages.base import StepContext
from harness.stages.batch import Batch
from harness.stages.ratios import segment_numbers
from harness.util.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

#: What ends the thinking of most models that think.
THINK_END = "</think>"


class Mark(NamedTuple):
    """First and last token of a mark in each response, ``[B]`` int64 each; the length where there is none."""

    first_B: Tensor
    last_B: Tensor


def token_texts(batch: Batch, read: Callable[[list[int]], list[str]]) -> Iterator[list[str]]:
    """The texts of each response's tokens, row by row; ``read`` gives those of a list of token ids."""
    ids = batch.response_BT[batch.mask_BT].unique().tolist()
    text = dict(zip(ids, read(ids), strict=True))
    for row, mask in zip(batch.response_BT, batch.mask_BT, strict=True):
        yield [text[i] for i in row[mask].tolist()]


def step_pattern(expression: str) -> re.Pattern[str]:
    """``expression`` compiled.

    Raises:
        UserError: it is no regular expression.
    """
    try:
        return re.compile(expression)
    except re.error as error:
        raise UserError(f"'{expression}' is no regular expression ({error}); mend it") from None


def step_numbers(batch: Batch, ctx: StepContext, ends: str) -> Tensor:
    """The step of each response token, ``[B,T]`` int64 from 0 in every response, -1 on padding.

    Args:
        ends: regular expression; a step ends with the token in which a match ends. Empty: one step each.
    """
    closes = torch.zeros_like(batch.mask_BT)
    if ends:
        pattern = step_pattern(ends)
        for row, texts in enumerate(token_texts(batch, lambda ids: ctx.decode([[i] for i in ids]))):
            found = [match.end() - 1 for match in pattern.finditer("".join(texts)) if match[0]]
            closes[row, _tokens_at(texts, found)] = True
    return segment_numbers(closes, batch.mask_BT)


def equal_parts(length: int, parts: int) -> list[int]:
    """Where ``parts`` nearly equal parts of a response begin; as many as it has tokens, if that is fewer."""
    count = min(parts, length)
    return [length * k // count for k in range(count)]


def part_starts(number_BT: Tensor, mask_BT: Tensor, most: int) -> list[list[int]]:
    """Where the segments of each response begin, by their numbers; from the ``most``-th on they are one."""
    starts = []
    for number, mask in zip(number_BT, mask_BT, strict=True):
        own = number[mask].tolist()
        found = [t for t in range(len(own)) if t == 0 or own[t] != own[t - 1]]
        starts.append(found[:most])
    return starts


def segments_from(starts: Sequence[Sequence[int]], mask_BT: Tensor) -> Tensor:
    """Number of each token's segment, ``[B,T]`` int64 from 0, -1 on padding."""
    begins_BT = torch.zeros(mask_BT.shape, dtype=torch.int64)
    for row, own in enumerate(starts):
        begins_BT[row, list(own)] = 1
    return torch.where(mask_BT.bool(), begins_BT.cumsum(1) - 1, -1)


def _tokens_at(texts: Sequence[str], characters: Sequence[int]) -> list[int]:
    """The token that each character of the joined ``texts`` is in."""
    ends = list(accumulate(len(text) for text in texts))
    return [bisect_right(ends, at) for at in characters]


def find_mark(batch: Batch, ctx: StepContext, mark: str = THINK_END) -> Mark:
    """The first place of ``mark`` in each response, with the tokens that hold any part of it.

    Raises:
        UserError: in the first step of a run, if no response has it: then the model does not write it.
    """
    length = batch.length_B.tolist()
    first, last = list(length), list(length)
    for row, texts in enumerate(token_texts(batch, ctx.pieces)):
        at = "".join(texts).find(mark)
        if at >= 0:
            first[row], last[row] = _tokens_at(texts, [at, at + len(mark) - 1])
    found = Mark(torch.tensor(first), torch.tensor(last))
    if ctx.step == 1 and len(batch) and bool((found.first_B == batch.length_B).all()):
        raise UserError(
            f"no response of the first step has '{mark}', so this model does not end its thinking with it; "
            "train a model that does, raise rollout.max_response_tokens if responses are cut off before, or "
            "name what the model writes there with method.mark"
        )
    return found
