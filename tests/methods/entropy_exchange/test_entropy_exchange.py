"""The two shapings on numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from methods.entropy_exchange import by_perplexity, by_position, log_perplexity, position_bonus, standardised


def test_a_likely_response_weighs_more() -> None:
    logp = torch.tensor([[-1.0, -1.0, 9.0], [-1.0, -2.0, -3.0], [-5.0, 9.0, 9.0]]).double()
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0]])
    surprise = log_perplexity(logp, mask)
    assert surprise.tolist() == [1.0, 2.0, 5.0]
    w = standardised(surprise, torch.tensor([0, 0, 1]))
    # mean 1.5, std sqrt(1/2); and a group of one
    assert w.tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5, 5.0])
    both = standardised(surprise, torch.tensor([0, 0, 1]), "batch")
    assert float(both.sum()) == pytest.approx(0.0) and float(both.std()) == pytest.approx(1.0)


def test_the_factor_and_its_sign() -> None:
    """The sheet's numbers: A = 1, w = -1, alpha = 0.1."""
    one, w = torch.ones(3).double(), torch.tensor([-1.0, 5.0, 20.0]).double()
    assert by_perplexity(one, w, 0.1).tolist() == pytest.approx([1.1, 0.5, -1.0])
    assert by_perplexity(-one, w, 0.1, keep_sign=True).tolist() == pytest.approx([-1.1, -0.5, 0.0])


def test_the_bonus_grows_towards_the_end_and_keeps_the_sign() -> None:
    """The sheet's numbers: L = 4, t = 4, gamma = 0.1, d = 2."""
    mask = torch.tensor([[1, 1, 1, 1, 0]] * 3)
    bonus = position_bonus(mask, 0.1, 2.0)
    assert float(bonus[0, 3]) == pytest.approx(0.0880797, abs=1e-7) and float(bonus[0, 4]) == 0
    assert bool((bonus[0, :4].diff() > 0).all()) and float(bonus[0, 0]) > 0.05
    assert bool((position_bonus(mask, 0.1, -2.0)[0, :4].diff() < 0).all())
    shaped = by_position(torch.tensor([1.0, -1.0, 0.0]).double(), bonus)
    assert shaped[:, 3].tolist() == pytest.approx([1.0880797, -1.0880797, 0.0], abs=1e-7)
    assert shaped[2].tolist() == [0.0] * 5
