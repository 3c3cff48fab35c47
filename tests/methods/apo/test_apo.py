"""APO's weights on numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from methods.apo import clipped_advantage, difficulty, kl_weight, length_weight, right

ONE = torch.zeros(4)


def test_the_sheet_s_numbers() -> None:
    reward = torch.tensor([1.0, 1.5, 0.0, 0.5], dtype=torch.float64)
    length = torch.tensor([100, 300, 1200, 150])
    assert right(reward).tolist() == [1, 1, 0, 0]
    assert length_weight(reward, length, ONE).tolist() == pytest.approx([1, 1, 1.009950, 1], abs=1e-6)
    hard = difficulty(reward, ONE)
    assert hard.tolist() == [0.5] * 4
    assert kl_weight(hard, torch.tensor([1.0, 0.0, -1.0, 2.0]).double()).tolist() == pytest.approx(
        [0.743119, 1, 1, 0.743119], abs=1e-6
    )


def test_the_mean_of_the_right_ones_lengths_has_the_code_s_epsilon() -> None:
    reward, length = torch.tensor([1.0, 0.0]).double(), torch.tensor([1000.0, 1001.0]).double()
    weight = length_weight(reward, length, torch.zeros(2, dtype=torch.int64), math.e)
    assert float(weight[1]) == pytest.approx(2 - math.exp(-1.000001), abs=1e-11)


def test_the_length_weight_stays_below_two_and_needs_a_right_response() -> None:
    length = torch.tensor([1, 10_000_000, 2, 3])
    assert float(length_weight(torch.tensor([1.0, 0, 0, 0]), length, ONE)[1]) == pytest.approx(2)
    assert length_weight(torch.zeros(4), length, ONE).tolist() == [1] * 4
    assert length_weight(torch.ones(4), length, ONE).tolist() == [1] * 4
    assert length_weight(torch.tensor([1.0, 0, 0, 0]), length, ONE, 1.0).tolist() == [1] * 4


def test_the_kl_weight_is_one_at_both_ends_of_difficulty() -> None:
    ends = torch.tensor([0.0, 1.0, 1e-6, 0.999999], dtype=torch.float64)
    assert kl_weight(ends, torch.ones(4).double()).tolist() == pytest.approx([1, 1, 0.934012, 0], abs=1e-5)


def test_rewards_below_one_count_as_wrong() -> None:
    assert right(torch.tensor([0.9, 0.5, -1.0, 1.0, 2.0])).tolist() == [0, 0, 0, 1, 1]


def test_one_outlier_among_many_is_clipped() -> None:
    reward = torch.zeros(400, dtype=torch.float64)
    reward[0] = 1
    assert float(clipped_advantage(reward, torch.zeros(400))[0]) == 10
