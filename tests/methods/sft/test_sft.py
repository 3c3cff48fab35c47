"""SFT on the sheet's numbers, and what it does to an entropy."""

from __future__ import annotations

import pytest
import torch

from harness.stages.demonstrations import cross_entropy
from harness.stages.token_stats import LOGP
from tests.methods.support.losses import rows, value_and_gradient
from tests.methods.support.tabular import change, stages


def test_the_sheet_s_numbers() -> None:
    logits = torch.tensor([[2.0, 0, 0], [0, 0, 0]], dtype=torch.float64, requires_grad=True)
    logp = LOGP.compute(logits, torch.tensor([0, 0]))
    assert logp.tolist() == pytest.approx([-0.239545, -1.098612], abs=1e-6)
    ones = torch.ones(1, 2, dtype=torch.float64)
    loss, gradient = value_and_gradient(cross_entropy(), rows(ones, logp.detach()[None]), logp.detach()[None])
    assert loss == pytest.approx(0.669079, abs=1e-6) and gradient == [-0.5, -0.5]
    (by_logits,) = torch.autograd.grad(-logp.mean(), logits)
    assert by_logits[1].tolist() == pytest.approx([-1 / 3, 1 / 6, 1 / 6])


def test_a_nearly_impossible_token_is_finite() -> None:
    logits = torch.tensor([[150.0, 0.0]])
    assert LOGP.compute(logits, torch.tensor([1])).tolist() == [-150.0]


def test_the_entropy_falls_where_one_answer_is_shown_and_grows_towards_many() -> None:
    """Shown the likeliest action alone a policy sharpens; shown all alike it flattens."""
    g = torch.Generator().manual_seed(0)
    logits = 2.0 * torch.randn(200, 8, generator=g, dtype=torch.float64)
    ones = torch.ones(200, 8, dtype=torch.float64)
    top = logits.argmax(1, keepdim=True).expand(-1, 8)
    every = torch.arange(8).expand(200, -1)
    assert bool((change(stages("sft"), logits, top, ones, 0.1) < 0).all())
    assert bool((change(stages("sft"), logits, every, ones, 0.1) > 0).all())
