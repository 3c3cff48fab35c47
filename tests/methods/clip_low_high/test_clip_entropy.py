"""What clipping does to entropy, in closed form: one exact expected step of tabular softmax policies.

The rewards are fair coins, so without clipping the expected gradient is 0 and every change comes from the
clip (arXiv 2509.26114). All actions are enumerated with both advantages and weighted by the old policy.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.registry import methods as registry
from tests.methods.support.losses import batch_of

ACTIONS, POLICIES, STEP = 64, 2000, 0.1
LOW = {"eps_low": 0.2, "eps_high": None}
HIGH = {"eps_low": None, "eps_high": 0.2}
BOTH = {"eps_low": 0.2, "eps_high": 0.2}


def entropy(logits: Tensor) -> Tensor:
    logp = logits.log_softmax(1)
    return -(logp.exp() * logp).sum(1)


@cache
def policies(spread: float, moved: float) -> tuple[Tensor, Tensor]:
    """Logits before and after some updates, ``[R,K]``; a larger spread is a more peaked policy."""
    g = torch.Generator().manual_seed(0)
    old = spread * torch.randn(POLICIES, ACTIONS, generator=g, dtype=torch.float64)
    return old, old + moved * torch.randn(old.shape, generator=g, dtype=torch.float64)


def entropy_change(values: dict[str, Any], spread: float, moved: float) -> float:
    """Mean entropy change, in nats per unit of step size, of one gradient step on the expected loss."""
    old, logits = policies(spread, moved)
    stage = registry.load("clip-low-high")(**values).stages().loss
    leaf = logits.clone().requires_grad_()
    logp = leaf.log_softmax(1)
    old_logp = old.log_softmax(1)
    batch, _ = batch_of([[0.0] * (2 * ACTIONS)] * POLICIES, [1.0] * POLICIES)
    coin = torch.tensor([1.0, -1.0]).repeat_interleave(ACTIONS).double().expand(POLICIES, -1)
    batch = batch.with_(old={"logp": old_logp.repeat(1, 2)}, advantage_BT=coin)
    current = {"logp": logp.repeat(1, 2)}
    with torch.no_grad():
        prepared = stage.prepare(batch, current).value
    expected = (stage(batch, current, prepared) * old_logp.exp().repeat(1, 2) / 2).sum()
    (grad,) = torch.autograd.grad(expected, leaf)
    return float((entropy(logits - STEP * grad) - entropy(logits)).mean()) / STEP


@pytest.mark.parametrize("spread", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("moved", [0.1, 0.3, 0.6])
def test_clip_low_raises_entropy(spread: float, moved: float) -> None:
    assert entropy_change(LOW, spread, moved) > 1e-5


@pytest.mark.parametrize("spread", [2.0, 3.0])
def test_near_the_old_policy_clip_high_lowers_entropy_and_wins(spread: float) -> None:
    """Peaked policies, ratios that rarely reach the bounds: the case the paper describes."""
    assert entropy_change(HIGH, spread, 0.1) < -1e-4
    assert entropy_change(BOTH, spread, 0.1) < -1e-4


@pytest.mark.parametrize(("spread", "moved"), [(1.0, 0.6), (2.0, 0.6)])
def test_far_from_the_old_policy_clip_high_raises_it_too(spread: float, moved: float) -> None:
    """Where the claim ends: ratios far outside also on likely actions, whose probability then falls."""
    assert entropy_change(HIGH, spread, moved) > 1e-4


def test_without_clipping_nothing_changes() -> None:
    assert abs(entropy_change({"eps_low": None, "eps_high": 1e9}, 2.0, 0.3)) < 1e-12


@pytest.mark.parametrize("moved", [0.1, 0.3])
def test_a_tighter_clip_low_raises_it_more(moved: float) -> None:
    assert entropy_change({**LOW, "eps_low": 0.1}, 2.0, moved) > entropy_change(LOW, 2.0, moved)
