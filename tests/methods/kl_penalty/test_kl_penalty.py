"""What each estimator of the KL pulls to, in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

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
