"""Lp-Reg by hand, which tokens it takes, and which way they move entropy, on tabular softmax policies."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.lp_reg import HeldUpLoss, held_up, least_likely
from tests.methods.support.losses import rows
from tests.methods.support.tabular import PLAIN, Draws, stages, taken


def test_a_token_by_hand() -> None:
    """A -1, p 0.02 and a proxy of 0.025: loss 1 + (1.25 - ln 1.25 - 1), slope 1 - 0.25."""
    logp = torch.tensor([[0.02, 0.01, 0.5]], dtype=torch.float64).log()
    stage = HeldUpLoss(rho=(0.7, 0.0))
    batch = rows(-torch.ones_like(logp), logp)
    proxy = torch.tensor([[0.025, 0.005, 0.6]], dtype=torch.float64).log()
    batch = batch.with_(old={"logp": logp, stage.proxy.name: proxy})
    leaf = logp.clone().requires_grad_()
    prepared = stage.prepare(batch, {"logp": leaf.detach()}).value
    assert prepared["held"].tolist() == [[True, False, False]]  # then one above its proxy, and a likely one
    per_token = stage(batch, {"logp": leaf}, prepared)
    (grad,) = torch.autograd.grad(per_token.sum(), leaf)
    assert per_token[0].tolist() == pytest.approx([1.25 - math.log(1.25), 1.0, 1.0])
    assert float(per_token[0, 0].detach()) == pytest.approx(1.026856, abs=1e-6)
    assert grad[0].tolist() == pytest.approx([0.75, 1.0, 1.0])


def test_a_share_of_one_token_holds_none() -> None:
    logp = -torch.arange(10.0)[None]
    every = torch.ones_like(logp, dtype=torch.bool)
    assert int(least_likely(logp, every, every, 0.19).sum()) == 0
    assert least_likely(logp, every, every, 0.2).nonzero()[:, 1].tolist() == [8, 9]


def test_signs_are_counted_apart_or_together() -> None:
    logp = -torch.arange(8.0)[None]
    advantage = torch.tensor([[-1.0, -1, -1, -1, 1, 1, 0, -1]])
    near, mask = torch.zeros_like(logp), torch.ones_like(logp)

    def found(**options: Any) -> list[int]:
        return held_up(logp, near, advantage, mask, (0.5, 1.0), **options).nonzero()[:, 1].tolist()

    assert found() == [3, 4, 5, 7]  # two of five negative tokens, both positive ones, never A = 0
    assert found(over="batch") == [4, 5, 7]  # the four least likely of all, of which one is negative


def moved(draws: Draws, values: dict[str, Any]) -> Tensor:
    """Entropy after a step less entropy before it."""
    made = stages("lp-reg", aggregation="token-mean", proxy="current", **values)
    after, _ = taken(made, draws.logits, draws.tokens, draws.advantage, 1e-3)
    logp = after.log_softmax(1)
    return -(logp.exp() * logp).sum(1)


@pytest.mark.parametrize("spread", [1.5, 3.0])
def test_what_is_held_up_keeps_entropy_up(spread: float) -> None:
    """A rare token that is raised raises entropy; against the same step with another weight on the KL."""
    draws = Draws.make(spread)
    difference = moved(draws, {"rho": 0.3, "beta": 5.0}) - moved(draws, {"rho": 0.3, "beta": 0.0})
    touched = difference.abs() > 1e-9
    assert 0.01 < float(touched.double().mean()) < 0.3
    assert float((difference[touched] > 0).double().mean()) > 0.95 and float(difference.mean()) > 0


def test_without_candidates_it_is_the_clipped_loss() -> None:
    draws = Draws.make(1.5)
    plain = taken(stages("grpo", **PLAIN), draws.logits, draws.tokens, draws.advantage, 1e-3)[0]
    made = stages("lp-reg", rho=0.0, eps_high=math.inf, proxy="current")
    assert torch.equal(taken(made, draws.logits, draws.tokens, draws.advantage, 1e-3)[0], plain)
