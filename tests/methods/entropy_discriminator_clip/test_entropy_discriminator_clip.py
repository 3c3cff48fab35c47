"""The discriminator's signs, measured on tabular softmax policies."""

from __future__ import annotations

import pytest
import torch

from methods.entropy_discriminator_clip import discriminator, removed_by_change, removed_by_discriminator
from methods.entropy_polarity import FACTOR
from tests.methods.support.tabular import PLAIN, Draws, agreement, change, entropy, stages


@pytest.mark.parametrize("sharpness", [0.5, 1.5, 3.0])
def test_the_discriminator_is_the_entropy_change_of_a_logit(sharpness: float) -> None:
    """dH / dz_k = -S_k, and its mean over the policy is what a policy-gradient step subtracts."""
    draws = Draws.make(sharpness)
    p, h = draws.logits.softmax(1), entropy(draws.logits)
    s = discriminator(p.log(), h[:, None].expand_as(p))
    leaf = draws.logits.clone().requires_grad_()
    (slope,) = torch.autograd.grad(entropy(leaf).sum(), leaf)
    torch.testing.assert_close(slope, -s)
    change_of_token = (p * s).sum(1) - s.gather(1, draws.tokens)[:, 0]
    torch.testing.assert_close(FACTOR.compute(draws.logits, draws.tokens[:, 0]), change_of_token)
    measured = draws.change(stages("grpo", **PLAIN), 1e-4)
    assert agreement(measured, draws.advantage[:, 0] * change_of_token) > 0.998


@pytest.mark.parametrize("form", ["b", "v"])
@pytest.mark.parametrize("sharpness", [1.5, 3.0])
def test_the_penalties_that_are_left_out_are_those_that_lower_entropy(form: str, sharpness: float) -> None:
    draws = Draws.make(sharpness)
    mask = torch.ones_like(draws.tokens, dtype=torch.bool)
    logp, h = draws.logp(draws.logits)[:, None], entropy(draws.logits)[:, None]
    d = FACTOR.compute(draws.logits, draws.tokens[:, 0])[:, None]
    if form == "b":
        out = removed_by_discriminator(discriminator(logp, h), draws.advantage, mask, 1.0)
    else:
        out = removed_by_change(d, draws.advantage, mask, 1.0, 1.0)
    measured = draws.change(stages("grpo", **PLAIN), 1e-3)[:, None]
    assert 0.003 < float(out.double().mean()) < 0.4
    assert float((measured[out] < 0).double().mean()) > 0.95
    kept = torch.where(out, 0.0, draws.advantage)
    after = change(stages("grpo", **PLAIN), draws.logits, draws.tokens, kept, 1e-3)
    assert float(after.mean()) > float(measured.mean())
