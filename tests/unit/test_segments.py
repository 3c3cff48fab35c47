"""Steps and marks in the texts of responses: tokens that hold more, or less, than what ends a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from harness.stages.base import StepContext
from harness.stages.batch import Batch
from harness.stages.segments import find_mark, step_numbers
from harness.util.errors import UserError
from tests.helpers.tiny import tiny_policy
from tests.methods.support.golden import make_batch
from tests.methods.support.programs import CTX

#: Texts of tokens; 9 is a special one.
TEXTS = ("a", "\n", "\n\n", "b.\n\n", "\n\nc", "</", "think", ">", "x</think>\n", "</think>")


def batch_of(*rows: list[int]) -> Batch:
    width = max(map(len, rows))
    mask = torch.tensor([[t < len(row) for t in range(width)] for row in rows])
    tokens = torch.tensor([row + [9] * (width - len(row)) for row in rows])  # padding is no mark
    return make_batch(mask, response_BT=tokens)


def context(step: int = 2) -> StepContext:
    def decode(rows: Sequence[Sequence[int]]) -> list[str]:
        return ["".join(TEXTS[i] for i in row if i != 9) for row in rows]

    return replace(CTX, step=step, pieces=lambda ids: [TEXTS[i] for i in ids], decode=decode)


def test_a_step_ends_with_the_token_in_which_a_match_ends() -> None:
    batch = batch_of([0, 2, 0, 1, 1, 0], [3, 0, 4, 0], [0, 1, 0], [2, 2, 0])
    assert step_numbers(batch, context(), r"\n\n").tolist() == [
        [0, 0, 1, 1, 1, 2], [0, 1, 1, 2, -1, -1], [0, 0, 0, -1, -1, -1], [0, 1, 2, -1, -1, -1]
    ]  # fmt: skip
    assert step_numbers(batch, context(), r"\n{2,}")[3].tolist() == [0, 0, 1, -1, -1, -1]
    for ends in ("", "x?"):  # what matches nothing ends nothing
        assert int(step_numbers(batch, context(), ends).max()) == 0
    assert int(step_numbers(batch_of([0, 9, 0]), context(), "k").max()) == 0  # of a special token
    with pytest.raises(UserError, match="mend it"):
        step_numbers(batch, context(), "(")


def test_a_mark_is_found_as_one_token_in_another_and_over_several() -> None:
    batch = batch_of([0, 9, 0], [0, 0, 5, 6, 7, 0], [8, 9], [0, 0, 5, 6])
    found = find_mark(batch, context())
    assert found.first_B.tolist() == [1, 2, 0, 4] and found.last_B.tolist() == [1, 4, 0, 4]


def test_a_model_that_never_writes_the_mark_is_refused_in_its_first_step() -> None:
    without = batch_of([0, 1], [5, 6])
    with pytest.raises(UserError, match="no response of the first step has '</think>'.*method.mark"):
        find_mark(without, context(step=1))
    assert find_mark(without, context()).first_B.tolist() == [2, 2]
    find_mark(batch_of([0, 1], [9]), context(step=1))


def test_single_tokens_of_a_tokenizer_have_their_texts_special_ones_too() -> None:
    policy = tiny_policy()
    ids = [policy.eos_id, *policy.encode("fox")]
    texts = policy.pieces(ids)
    assert texts[0] == "<|end|>" and "".join(texts[1:]).endswith("fox")
    assert policy.decode([[policy.eos_id]]) == [""]
