"""ADORA's weight on numbers worked out by hand, and where its two code bases differ."""

from __future__ import annotations

import pytest
import torch

from methods.adora import prompt_weights


def weight(right: list[int], length: list[int], variant: str = "llm", max_length: float = 4054) -> float:
    found = prompt_weights(
        torch.tensor(right).double(), torch.tensor(length), torch.zeros(len(right)), variant=variant,
        weight=0.1, correct_score=0.5, max_length=max_length,
    )  # fmt: skip
    assert len(set(found.tolist())) == 1
    return float(found[0])


def test_the_sheet_s_numbers() -> None:
    assert weight([1, 0, 0], [5, 7, 9]) == 0.1
    assert weight([1, 1, 0, 0], [5, 9, 7, 9]) == 1
    assert weight([1, 0], [8, 8]) == 0.1, "the comparison is strict"


def test_a_wrong_response_at_the_limit_is_not_counted() -> None:
    assert weight([1, 0, 0], [5, 4, 100]) == 0.1
    assert weight([1, 0, 0], [5, 4, 100], max_length=100) == 1


@pytest.mark.parametrize(("variant", "all_right", "all_wrong"), [("llm", 1, 0.1), ("vl", 0.1, 1)])
def test_the_code_bases_treat_one_sided_groups_in_opposite_ways(
    variant: str, all_right: float, all_wrong: float
) -> None:
    assert weight([1, 1], [5, 9], variant) == all_right
    assert weight([0, 0], [5, 9], variant) == all_wrong
