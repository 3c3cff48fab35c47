"""Forced answers: contexts passed once, cut points inside their response; where segments begin."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.stages.forced import forced_answers
from harness.stages.segments import equal_parts, part_starts, segments_from
from tests.methods.support.golden import make_batch

BATCH = make_batch(torch.tensor([[1, 1, 1], [1, 1, 0]])).with_(
    response_BT=torch.tensor([[5, 6, 7], [5, 8, 0]])
)


def asked(cuts: list[list[int]], answers: list[list[int]]) -> tuple[list[list[int]], Any]:
    """The responses that are scored; their tokens' numbers come back as log-probs."""
    program = forced_answers(BATCH, cuts, [9], answers)
    request = next(program)
    made = request.batch
    scored = [row[mask].tolist() for row, mask in zip(made.response_BT, made.mask_BT, strict=True)]
    try:
        program.send({"logp": made.response_BT.float()})
    except StopIteration as stop:
        return scored, stop.value
    raise AssertionError("the program asks once")


def test_equal_beginnings_are_passed_once() -> None:
    scored, logp = asked([[0, 1, 3], [0, 1]], [[3, 4], [3, 4]])
    assert scored == [[9, 3, 4], [5, 9, 3, 4], [5, 6, 7, 9, 3, 4]]
    assert logp == [[[3.0, 4.0]] * 3, [[3.0, 4.0]] * 2]
    other, logp = asked([[0], [0]], [[3], [4, 2]])
    assert other == [[9, 3], [9, 4, 2]] and logp == [[[3.0]], [[4.0, 2.0]]]


def test_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="cut point 3 lies outside a response of 2 tokens"):
        asked([[0], [3]], [[1], [1]])
    with pytest.raises(ValueError, match="without a token"):
        asked([[0], [0]], [[1], []])
    with pytest.raises(StopIteration) as stop:  # nothing to ask
        next(forced_answers(BATCH, [[], []], [9], [[1], [1]]))
    assert stop.value.value == [[], []]


def test_parts() -> None:
    assert equal_parts(10, 4) == [0, 2, 5, 7] and equal_parts(2, 4) == [0, 1] and equal_parts(5, 1) == [0]
    number = torch.tensor([[0, 0, 1, 2], [0, 1, -1, -1]])
    assert part_starts(number, number >= 0, 5) == [[0, 2, 3], [0, 1]]
    assert part_starts(number, number >= 0, 2) == [[0, 2], [0, 1]]
    assert segments_from([[0, 2], [0, 1]], number >= 0).tolist() == [[0, 0, 1, 1], [0, 1, -1, -1]]
