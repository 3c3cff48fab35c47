"""PEAR on numbers worked out by hand; a model that does not think."""

from __future__ import annotations

import pytest
import torch

from harness.util.errors import UserError
from methods.pear import penalty, phase_means, phase_reward
from tests.helpers.tiny import tiny_trainer


def test_two_phases() -> None:
    """The sheet's numbers: thinking (0.8, 0.4), the mark, the answer (0.1, 0.3), alpha = 1."""
    values = torch.tensor([[0.8, 0.4, 9.0, 0.1, 0.3, 9.0]] * 2).double()
    mask, at = torch.tensor([[1, 1, 1, 1, 1, 0]] * 2), torch.tensor([2, 2])
    think, answer = phase_means(values, mask, at, at)
    assert think.tolist() == pytest.approx([0.6] * 2) and answer.tolist() == pytest.approx([0.2] * 2)
    paid = penalty(think, answer, 1.0)
    assert paid.tolist() == pytest.approx([0.4] * 2)
    assert phase_reward(torch.tensor([1.0, 0.0]), paid, 1.0, 0.0).tolist() == pytest.approx([0.6, 0.0])


def test_a_phase_without_a_token_has_no_entropy() -> None:
    values, mask = torch.tensor([[0.5, 1.0, 1.5]] * 3), torch.ones(3, 3)
    first = torch.tensor([0, 2, 3])  # the mark opens the response, ends it, is not there
    think, answer = phase_means(values, mask, first, first)
    assert think.tolist() == [0.0, 0.75, 1.0] and answer.tolist() == [1.25, 0.0, 0.0]
    assert penalty(think, answer, 1.0).tolist() == [0.0, 0.75, 1.0]
    spread = phase_means(values, mask, torch.tensor([0, 1, 1]), torch.tensor([1, 2, 1]))
    assert spread[0].tolist() == [0.0, 0.5, 0.5] and spread[1].tolist() == [1.5, 0.0, 1.5]


def test_no_more_than_one_is_paid() -> None:
    paid = torch.tensor([0.0, 0.3, 2.5])
    assert phase_reward(torch.ones(3), paid, 1.5, 0.0).tolist() == pytest.approx([1.0, 1.0, -1.0])


def test_a_model_that_does_not_write_the_mark_is_refused() -> None:
    with pytest.raises(UserError, match="no response of the first step has '</think>'.*method.mark"):
        tiny_trainer(method="pear").step()


def test_rewards_follow_the_old_pass_of_their_own_rollouts() -> None:
    trainer = tiny_trainer("method.mark=c", "train.old_pass=always", method="pear")
    rows = [trainer.step() for _ in range(2)]
    assert all(0 < row["pear/think_entropy"] and 0 < row["pear/without_mark"] < 1 for row in rows)
    same = tiny_trainer("method.mark=c", method="pear")  # the sampler takes the old pass on the way
    assert same.step()["pear/think_entropy"] == pytest.approx(rows[0]["pear/think_entropy"], rel=1e-5)
