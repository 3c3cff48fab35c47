"""SIREN by hand, its anchor, and that its term moves peak entropy to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.stages.token_stats import NucleusEntropy
from methods.siren import Anchor, PeakEntropy, peak_entropy, peaks
from tests.methods.support.losses import rows
from tests.methods.support.tabular import entropy, stages


def test_a_nucleus_by_hand() -> None:
    """Of 0.5, 0.3, 0.15, 0.05 at P 0.9 the third reaches it: out, or in; at P 0.4 nothing is left."""
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64).log().requires_grad_()
    token = torch.zeros(1, dtype=torch.long)

    def nucleus(**options: Any) -> Any:
        return NucleusEntropy(**options).compute(logits, token)

    assert nucleus(top_p=0.9).item() == pytest.approx(0.661563, abs=1e-6)
    three = torch.tensor([0.5, 0.3, 0.15], dtype=torch.float64) / 0.95
    assert nucleus(top_p=0.9, inclusive=True).item() == pytest.approx(-float((three * three.log()).sum()))
    assert nucleus(top_p=0.9, top_k=1).item() == pytest.approx(0.0, abs=1e-9)
    nothing = nucleus(top_p=0.4)
    (grad,) = torch.autograd.grad(nothing.sum(), logits)
    assert nothing.item() == 0.0 and not bool(grad.any())


def test_peaks_and_the_square_by_hand() -> None:
    """The 0.8-quantile of 0.1 .. 0.5 is 0.42: 0.5 alone is above it, 0.2 from an anchor of 0.3."""
    entropy = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5, 9.0]], dtype=torch.float64)
    mask = torch.tensor([[True] * 5 + [False]])
    assert peaks(entropy, mask, 0.8).tolist() == [[False] * 4 + [True, False]]
    term = PeakEntropy(Anchor(0.3, NucleusEntropy(), 0.8))
    batch = rows(torch.zeros_like(entropy), torch.zeros_like(entropy), mask_BT=mask)
    name = term.anchor.stat.name
    prepared = term.prepare(batch, {name: entropy}).value
    square = term(batch, {name: entropy}, prepared)[mask].mean()
    assert term.coefficient() * float(square) == pytest.approx(0.0002)
    equal = torch.full((1, 3), 0.5)
    assert float(peak_entropy(equal, torch.ones(1, 3), 0.8)) == 0.0  # nothing lies above: a row of value 0


def test_the_anchor_is_the_first_batch_and_then_needs_no_statistic() -> None:
    made = stages("siren")
    (term,) = made.regularisers
    name = made.components["siren"].stat.name  # type: ignore[attr-defined]
    assert [s.name for s in term.old_stats] == [name] and term.coefficient() == 0.0
    ctx: Any = None
    for value in (0.5, 0.9):
        old = torch.tensor([[0.1, value]])
        batch = rows(torch.zeros(1, 2), torch.zeros(1, 2)).with_(old={name: old})
        assert made.components["siren"].before_update(batch, ctx)["siren/anchor"] == pytest.approx(0.5)
    assert term.old_stats == () and term.coefficient() == 0.005


@pytest.mark.parametrize(("anchor", "sign"), [(0.0, -1), (3.0, 1)])
def test_entropy_moves_to_the_anchor(anchor: float, sign: int) -> None:
    """One row of two tokens, without an advantage: the more uncertain one moves, the other stays."""
    g = torch.Generator().manual_seed(0)
    logits = torch.tensor([[1.0], [3.0]]) * torch.randn(2, 20, generator=g, dtype=torch.float64)
    leaf = logits.clone().requires_grad_()
    term = PeakEntropy(Anchor(anchor, NucleusEntropy(top_p=0.95), 0.8))
    name, still = term.anchor.stat.name, torch.zeros(1, 2, dtype=torch.float64)
    current = {name: term.anchor.stat.compute(leaf, torch.zeros(2, dtype=torch.long))[None]}
    batch = rows(still, still)
    prepared = term.prepare(batch, {name: current[name].detach()}).value
    (grad,) = torch.autograd.grad(term(batch, current, prepared).mean(), leaf)
    change = entropy(logits - 1e-3 * grad) - entropy(logits)
    assert sign * float(change[0]) > 0 and not bool(grad[1].any())
