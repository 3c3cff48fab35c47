"""Signs that the papers of entropy controllers derive, measured as in test_entropy_change.py."""

from __future__ import annotations

import pytest
import torch
from test_entropy_change import PLAIN, Draws, Expected, agreement, change, entropy, stages

from methods.dcpo import tempered_ratio
from methods.entropy_discriminator_clip import discriminator, removed_by_change, removed_by_discriminator
from methods.entropy_polarity import FACTOR, polarity, polarity_weights


@pytest.mark.parametrize(("h", "sign"), [(0.0, 1), (9.0, -1)])
@pytest.mark.parametrize("sharpness", [0.5, 1.5, 3.0])
def test_dcpos_virtual_temperature_moves_entropy_to_its_target(h: float, sign: int, sharpness: float) -> None:
    """All answers correct, so that A = 0 and the added term is alone: its expectation is that of log pi under
    the tempered policy, and the expected step is towards pi^T: hotter below the target, colder above."""
    expected = Expected.make(sharpness)
    stage = stages("dcpo").advantage
    stage.state.h = h  # type: ignore[attr-defined]
    logits, tokens = expected.logits, expected.tokens
    old = {name: (scale * logits).log_softmax(1).gather(1, tokens) for name, scale in (
        ("logp", 1.0), (stage.tempered.name, stage.tempered.scale),  # type: ignore[attr-defined]
    )}  # fmt: skip
    credit = tempered_ratio(old[stage.tempered.name], old["logp"])  # type: ignore[attr-defined]
    measured = change(stages("grpo", **PLAIN), logits, tokens, credit, 1e-4)
    peaked = logits.max(1).values - logits.min(1).values > 0.1  # a uniform policy has no temperature
    assert bool((sign * measured[peaked] > 0).all()) and float(peaked.double().mean()) > 0.9


@pytest.mark.parametrize(("raising", "sign"), [(True, 1), (False, -1)])
@pytest.mark.parametrize("sharpness", [1.5, 3.0])
def test_a_wide_upper_threshold_raises_entropy_and_a_wide_lower_one_lowers_it(
    raising: bool, sign: int, sharpness: float
) -> None:
    """Flexible entropy control against the same step with both thresholds at 0.2; fair coins as above."""
    old = Expected.make(sharpness)
    g = torch.Generator().manual_seed(2)
    logits = old.logits + 0.1 * torch.randn(old.logits.shape, generator=g, dtype=torch.float64)
    tokens = old.tokens.repeat(1, 2)
    coin = torch.ones_like(tokens, dtype=torch.float64)
    coin[:, coin.shape[1] // 2 :] = -1
    made = stages("flexible-entropy@od", aggregation="token-mean")
    made.components["flexible"].load_state_dict({"u": 0.0, "h_init": 1.0, "raising": raising})
    wide = change(made, logits, tokens, coin, 1e-4, old_SK=old.logits)
    fixed = change(stages("grpo", aggregation="token-mean"), logits, tokens, coin, 1e-4, old_SK=old.logits)
    different = (wide - fixed).abs() > 1e-15
    assert float(different.double().mean()) > 0.01
    assert sign * float((wide - fixed).mean()) > 0
    assert float((sign * (wide - fixed) > 0)[different].double().mean()) > 0.8


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


@pytest.mark.parametrize("shift", [0.5, -0.5])
def test_weight_on_expanding_tokens_raises_entropy(shift: float) -> None:
    """Weight moved to tokens of P > 0 raises what a step does to entropy, to P < 0 it lowers it."""
    draws = Draws.make(1.5)
    factor = FACTOR.compute(draws.logits, draws.tokens[:, 0])[:, None]
    weight = polarity_weights(polarity(factor, draws.advantage, torch.ones_like(factor)), shift)
    plain = draws.change(stages("grpo", **PLAIN), 1e-4)
    moved = change(stages("grpo", **PLAIN), draws.logits, draws.tokens, weight * draws.advantage, 1e-4)
    assert float(((moved - plain) * shift > 0).double().mean()) > 0.99
