"""ERC by hand; what decides at an entropy of 0; and that it holds the distribution, not only the token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods.erc import EntropyBandLoss, entropy_ratio, in_band
from tests.methods.support.losses import rows
from tests.methods.support.tabular import Draws, change, entropy, stages, taken

PLAIN = {"positive_nll": 0.0, "dual_clip": None}


def one(ratios: list[float], entropies: list[float], **options: Any) -> tuple[float, list[float]]:
    """Loss and gradient of tokens with A 1 and an old entropy of 0.5."""
    old = torch.full((1, len(ratios)), -1.0, dtype=torch.float64)
    batch = rows(torch.ones_like(old), old)
    batch = batch.with_(old={"logp": old, "entropy": torch.full_like(old, 0.5)})
    leaf = (old + torch.tensor([ratios], dtype=torch.float64).log()).requires_grad_()
    current = {"logp": leaf, "entropy": torch.tensor([entropies], dtype=torch.float64)}
    stage = EntropyBandLoss(**options)
    loss = stage(batch, current, stage.prepare(batch, current).value).mean()
    (grad,) = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), grad[0].tolist()


def test_two_tokens_by_hand() -> None:
    """Entropies 0.5 and 0.6 after 0.5 and 0.5: the second token is still counted, but does not train."""
    loss, grad = one([1.0, 1.0], [0.5, 0.6])
    assert loss == pytest.approx(-1.0) and grad == pytest.approx([-0.5, 0.0])


@pytest.mark.parametrize(("preserving", "gradient"), [(True, -1.28), (False, 0.0)])
def test_a_clipped_token_by_hand(preserving: bool, gradient: float) -> None:
    bounds = stages("erc").loss.bounds  # type: ignore[attr-defined]
    loss, grad = one([1.5], [0.5], bounds=bounds, preserving=preserving)
    assert loss == pytest.approx(-1.28) and grad == pytest.approx([gradient])


def test_the_epsilon_decides_at_an_entropy_of_zero() -> None:
    new, old = torch.tensor([[0.0, 2e-9, -1e-7, 0.0]]), torch.tensor([[0.0, 0.0, -1e-7, 1e-7]])
    q = entropy_ratio(new, old)
    torch.testing.assert_close(q, torch.tensor([[1.0, 1.2, 1.0, 1 / 11]]).double())
    assert in_band(q, 0.95, 1.05).tolist() == [[True, False, True, False]]


def drift(values: dict[str, Any], name: str) -> Tensor:
    """How far entropy moved in three steps on the same tokens, as a share of what it was; ``[S]``."""
    draws = Draws.make(2.0)
    logits = draws.logits
    for _ in range(3):
        logits, _ = taken(
            stages(name, **values), logits, draws.tokens, draws.advantage, 2.0, old_SK=draws.old
        )
    return (entropy(logits) / entropy(draws.old) - 1).abs()


def test_entropy_stays_nearer_to_the_old_one_than_under_the_ratio_clip_alone() -> None:
    """A state leaves the band by one step at most, and then rests; the clip looks at the token alone."""
    clip = {"eps_low": 0.2, "eps_high": 0.28, "aggregation": "token-mean", "dual_clip": None}
    ours, theirs = drift(PLAIN, "erc"), drift(clip, "grpo")
    assert bool((ours <= theirs + 1e-12).double().mean() > 0.9)
    assert float(ours.mean()) < 0.9 * float(theirs.mean())


def test_the_first_step_after_a_rollout_is_that_of_the_base() -> None:
    draws = Draws.make(2.0)
    clip = {"eps_low": 0.2, "eps_high": 0.28, "aggregation": "token-mean", "dual_clip": None}
    same = [
        change(stages(name, **values), draws.old, draws.tokens, draws.advantage, 1e-3)
        for name, values in (("erc", PLAIN), ("grpo", clip))
    ]
    assert torch.equal(*same)
