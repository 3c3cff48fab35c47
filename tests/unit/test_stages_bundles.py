"""Bundles of prompts: their papers, and what does not break them."""

from __future__ import annotations

import torch

from harness.stages.bundles import bundle_numbers, tied


def lists(group: list[int], size: int) -> list[list[list[int]]]:
    return [rows.tolist() for rows in tied(torch.tensor(group), size)]


def test_a_paper_is_made_of_the_kth_rollouts() -> None:
    assert lists([0, 0, 1, 1, 2, 2], 2) == [[[0, 1], [2, 3]], [[4, 5]]]
    # in the order of the batch, questions by number
    assert lists([1, 0, 1, 0], 2) == [[[1, 3], [0, 2]]]


def test_the_smallest_group_says_how_many_papers_there_are() -> None:
    assert lists([0, 0, 0, 1, 1], 2) == [[[0, 1], [3, 4]]]


def test_a_dropped_prompt_moves_no_other_into_its_bundle() -> None:
    whole = torch.arange(6).repeat_interleave(2)
    for dropped in range(6):
        left = whole[whole != dropped]
        assert torch.equal(bundle_numbers(left, 3), bundle_numbers(whole, 3)[whole != dropped])
        assert [len(rows) for rows in tied(left, 3)] == ([2, 3] if dropped < 3 else [3, 2])
