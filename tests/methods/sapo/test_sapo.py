"""SAPO on numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from methods.sapo import gate_slope
from tests.methods.support.losses import batch_of, logs, loss_of


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "gradient"),
    [(1.0, 1.5, -2.489837, -1.410022), (-1.0, 1.5, 2.393585, 1.401210), (1.0, 1.0, -2.0, -1.0)],
)
def test_the_sheet_s_numbers(advantage: float, ratio: float, loss: float, gradient: float) -> None:
    batch, logp = batch_of([logs(ratio)], [advantage])
    value, grad, _ = loss_of("sapo", {}, batch, logp)
    assert (value, grad.item()) == pytest.approx((loss, gradient), abs=1e-6)


def test_far_tokens_fade_and_none_is_cut() -> None:
    batch, logp = batch_of([logs(3.0, 0.05, 8.0)], [1.0])
    _, grad, _ = loss_of("sapo", {}, batch, logp)
    assert -3 * grad[0, 0].item() == pytest.approx(1.259923, abs=1e-6)
    assert bool((grad < 0).all())


def test_the_slope_on_policy_is_one_whatever_tau() -> None:
    tau = torch.tensor([0.1, 1.0, 1.05, 20.0])
    assert gate_slope(torch.ones(4), tau).tolist() == [1.0] * 4


def test_a_smaller_tau_keeps_more_of_a_far_token() -> None:
    batch, logp = batch_of([logs(2.0)], [1.0])
    kept = [-loss_of("sapo", {"tau_pos": tau}, batch, logp)[1].item() for tau in (0.5, 1.0, 2.0)]
    assert kept == sorted(kept, reverse=True) and kept[0] < 2.0
