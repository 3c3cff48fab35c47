"""EMPG on numbers worked out by hand, and what it is without its two parts."""

from __future__ import annotations

import pytest
import torch

from harness.registry import methods as registry
from methods.empg import modulated, modulation, steps_of
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.pipeline import make_step, plan_of, update


def test_three_steps_of_one_response() -> None:
    """The sheet's numbers: A = 1, H = (0.2, 0.6, 1.0), k = k' = 1, zeta = 0.05."""
    g, f = modulation(torch.tensor([0.2, 0.6, 1.0]).double(), 1.0, 1.0)
    assert g.tolist() == pytest.approx([1.519441, 0.921588, 0.558971], abs=1e-6)
    credit = modulated(torch.ones(3).double(), g, f, torch.zeros(3), 0.05)
    assert credit.tolist() == pytest.approx([0.533528, -0.076259, -0.457269], abs=1e-6)


def test_equal_entropies_weigh_one_and_the_last_step_has_no_bonus() -> None:
    g, f = modulation(torch.full((4,), 0.3).double(), 1.0, 2.0)
    assert g.tolist() == pytest.approx([1.0] * 4) and f.tolist() == [1.0] * 4
    credit = modulated(torch.zeros(4).double(), g, f, torch.tensor([0, 0, 0, 1]), 0.4)
    assert credit.tolist() == pytest.approx([0.2, 0.2, -0.2, -0.2])


def test_steps_of_a_batch_in_order() -> None:
    number = torch.tensor([[0, 0, 1, 2], [0, 1, -1, -1], [0, -1, -1, -1]])
    entropy = torch.tensor([[1.0, 3, 5, 6], [7, 8, 99, 99], [9, 99, 99, 99]])
    row, mean, index = steps_of(entropy, number, number >= 0)
    assert row.tolist() == [0, 0, 0, 1, 1, 2] and mean.tolist() == [2.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    assert index.tolist() == [[0, 0, 1, 2], [3, 4, 0, 0], [5, 0, 0, 0]]


def test_without_its_parts_it_is_grpo() -> None:
    """True to rounding, though the card does not count it: k = 0 and zeta = 0 switch both parts off."""
    step = make_step(3, minibatches=1)
    mine = registry.load("empg")(k=0.0, zeta=0.0, step_end="").stages()
    theirs = registry.load("grpo")().stages()
    ours, base = (update(s, step, plan_of(s, step)[0]) for s in (mine, theirs))
    torch.testing.assert_close(ours, base, rtol=1e-5, atol=1e-7)


def test_steps_are_cut_in_a_real_step() -> None:
    trainer = tiny_trainer("method.step_end=e|a", method="empg")
    row = trainer.step()
    assert 1 < row["empg/steps"] < 8 and row["empg/weight_min"] < 1 < row["empg/weight_max"]
