"""GMPO on numbers worked out by hand, and beside GSPO."""

from __future__ import annotations

import math

import pytest
import torch

from harness.registry import methods as registry
from harness.stages.loss import clipped_tokens
from methods.gmpo import clipped_log_ratio
from tests.methods.support.losses import batch_of, loss_of


@pytest.mark.parametrize(
    ("advantage", "loss", "gradient"),
    [
        (1.0, -0.846482, [0.0, -0.282161, -0.282161]),
        (-1.0, 1.142631, [0.380877, 0.380877, 0.0]),
    ],
)
def test_the_sheet_s_response(advantage: float, loss: float, gradient: list[float]) -> None:
    batch, logp = batch_of([[0.9, -0.1, -0.8]], [advantage])
    value, grad, _ = loss_of("gmpo", {}, batch, logp)
    assert value == pytest.approx(loss, abs=1e-6)
    assert grad[0].tolist() == pytest.approx(gradient, abs=1e-6)


def test_a_clipped_token_has_no_gradient_and_still_counts() -> None:
    batch, logp = batch_of([[2.0, 0.0]], [1.0])
    value, grad, _ = loss_of("gmpo", {"eps_high": 0.6}, batch, logp)
    assert value == pytest.approx(-math.exp(0.3)) and grad[0, 0] == 0.0
    assert grad[0, 1].item() == pytest.approx(-math.exp(0.3) / 2)


def test_only_the_harmful_side_is_clipped() -> None:
    d = torch.tensor([-3.0, 3.0])
    assert clipped_log_ratio(d, torch.ones(2), -0.4, 0.4).tolist() == pytest.approx([-3.0, 0.4])
    assert clipped_log_ratio(d, -torch.ones(2), -0.4, 0.4).tolist() == pytest.approx([-0.4, 3.0])
    assert clipped_log_ratio(d, torch.zeros(2), -0.4, 0.4).tolist() == [0.0, 0.0]


def test_a_log_ratio_on_its_bound_keeps_its_gradient() -> None:
    for sign in (1.0, -1.0):
        d = torch.tensor([0.4 * sign, 0.5 * sign], dtype=torch.float64, requires_grad=True)
        clipped = clipped_log_ratio(d, torch.full((2,), sign, dtype=torch.float64), -0.4, 0.4)
        assert torch.autograd.grad(clipped.sum(), d)[0].tolist() == [1.0, 0.0]


def test_inside_its_band_it_is_gspo_without_a_clip() -> None:
    batch, logp = batch_of([[0.1, -0.04, 0.03], [-0.2, 0.3]], [1.0, -0.7])
    ours = loss_of("gmpo", {}, batch, logp)[:2]
    theirs = loss_of("gspo", {"eps_low": 0.9, "eps_high": 9.0}, batch, logp)[:2]
    torch.testing.assert_close(ours, theirs)


def test_one_wild_token_does_not_dominate_a_response() -> None:
    batch, logp = batch_of([[6.0, *[0.0] * 9]], [-1.0])
    geometric, arithmetic = (
        loss_of(name, {"eps_low": 0.2, "eps_high": 0.2}, batch, logp)[0] for name in ("gmpo", "grpo")
    )
    assert geometric == pytest.approx(math.exp(0.6)) and arithmetic > 40


def test_the_logged_shares_are_those_of_the_tokens_that_are_clipped() -> None:
    batch, logp = batch_of([[0.9, 0.3, -0.8], [0.9, -0.1, -0.8]], [1.0, -1.0])
    stage, current = registry.load("gmpo")().stages().loss, {"logp": logp}
    bounds = stage.prepare(batch, current).value
    clipped, _ = clipped_tokens(
        stage.ratio_BT(batch, current), batch.advantages(), bounds["low"], bounds["high"]
    )
    assert clipped.tolist() == [[True, False, False], [False, False, True]]
