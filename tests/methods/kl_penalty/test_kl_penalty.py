"""What each estimator of the KL pulls to, in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.stages.regularise import kl_estimate
from tests.methods.support.tabular import PLAIN, Expected, stages, taken


@pytest.mark.parametrize("sharpness", [0.5, 2.0])
def test_what_each_estimator_of_the_kl_pulls_to(sharpness: float) -> None:
    """Expected gradients in closed form: of KL(p, ref) for k2 in the loss and k1 in the reward, of KL(ref, p)
    for k3 in the loss, and none for k1 in the loss."""
    expected = Expected.make(sharpness)
    g = torch.Generator().manual_seed(3)
    reference = expected.logits + 0.3 * torch.randn(expected.logits.shape, generator=g, dtype=torch.float64)
    logits = expected.logits.clone().requires_grad_()
    p, q = logits.log_softmax(1), reference.log_softmax(1)
    (forward,) = torch.autograd.grad((q.exp() * (q - p)).sum(), logits, retain_graph=True)
    (reverse,) = torch.autograd.grad((p.exp() * (p - q)).sum(), logits)
    zero = torch.zeros_like(expected.tokens, dtype=torch.float64)
    ref_logp = q.gather(1, expected.tokens)

    def pull(estimator: str) -> Tensor:
        made = stages("kl-penalty@loss", estimator=estimator, coef=1.0)
        moved = taken(made, expected.logits, expected.tokens, zero, 1.0, reference=ref_logp)[0]
        return expected.logits - moved

    assert float(reverse.abs().max()) > 1e-3
    torch.testing.assert_close(pull("k1"), torch.zeros_like(reverse), rtol=0, atol=1e-9)
    torch.testing.assert_close(pull("k2"), reverse, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(pull("k3+"), reverse, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(pull("k3"), forward, rtol=1e-5, atol=1e-9)
    d = p.gather(1, expected.tokens).detach() - ref_logp
    moved = taken(stages("grpo", **PLAIN), expected.logits, expected.tokens, -d, 1.0)[0]
    torch.testing.assert_close(expected.logits - moved, reverse, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_the_correction_pulls_to_the_kl_of_the_current_policy_whatever_drew(estimator: str) -> None:
    """Draws of an old policy: without the correction neither estimator has this gradient."""
    old = Expected.make(1.0)
    g = torch.Generator().manual_seed(4)
    start = old.logits + 0.3 * torch.randn(old.logits.shape, generator=g, dtype=torch.float64)
    reference = old.logits + 0.3 * torch.randn(old.logits.shape, generator=g, dtype=torch.float64)
    logits = start.clone().requires_grad_()
    p, q = logits.log_softmax(1), reference.log_softmax(1)
    (wanted,) = torch.autograd.grad((p.exp() * (p - q)).sum(), logits)
    zero = torch.zeros_like(old.tokens, dtype=torch.float64)

    def pull(corrected: bool) -> Tensor:
        made = stages("kl-penalty@loss", estimator=estimator, coef=1.0, bias_corrected=corrected)
        ref_logp = q.gather(1, old.tokens)
        return start - taken(made, start, old.tokens, zero, 1.0, old_SK=old.logits, reference=ref_logp)[0]

    torch.testing.assert_close(pull(True), wanted, rtol=1e-5, atol=1e-9)
    assert float((pull(False) - wanted).abs().max()) > 1e-2


def test_the_sheet_s_numbers() -> None:
    """d = -3: verl's limits take the gradient away, TRL has none, and + takes k2's."""
    logp = torch.tensor([0.5, -3.0], dtype=torch.float64, requires_grad=True)

    def of(name: str, **clamps: float | None) -> tuple[list[float], list[float]]:
        value = kl_estimate(name, logp, torch.zeros(2), **clamps)
        return value.tolist(), torch.autograd.grad(value.sum(), logp)[0].tolist()

    assert of("k1")[0][0] == 0.5 and of("k2")[0][0] == 0.125 and of("k2")[1][0] == 0.5
    assert of("k3") == (pytest.approx([0.106531, 10], abs=1e-6), pytest.approx([0.393469, 0], abs=1e-6))
    free = of("k3", exponent_clamp=None, value_clamp=None)
    assert (free[0][1], free[1][1]) == pytest.approx((16.085537, -19.085537))
    assert (of("k3+")[0][1], of("k3+")[1][1]) == pytest.approx((10, -3))


def test_verl_s_limit_of_the_exponent_holds_in_both_terms_of_k3() -> None:
    d = torch.tensor([30.0, -30.0], dtype=torch.float64)
    value = kl_estimate("k3", d, torch.zeros(2), exponent_clamp=2.0, value_clamp=None)
    assert value.tolist() == pytest.approx([math.exp(-2) + 1, math.exp(2) - 3])
