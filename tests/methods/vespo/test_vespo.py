"""VESPO on numbers worked out by hand, and its sampler correction."""

from __future__ import annotations

import math

import pytest
import torch

from harness.registry import methods as registry
from methods.vespo import bump, log_response_weight
from tests.methods.support.losses import batch_of, logs, loss_of


@pytest.mark.parametrize(
    ("k", "damping", "weight", "phi"),
    [(2, 3, 0.5, 1.120422), (2, 3, 2.0, 0.199148), (3, 2, 0.5, 0.339785), (3, 2, 2.0, 1.082682)],
)
def test_the_sheet_s_bumps(k: float, damping: float, weight: float, phi: float) -> None:
    found = bump(torch.tensor([weight]).double().log(), torch.tensor([k]), torch.tensor([float(damping)]))
    assert found.item() == pytest.approx(phi, abs=1e-6)


def test_the_sheet_s_response_of_two_tokens() -> None:
    batch, logp = batch_of([[0.1, 0.1]], [1.0])
    _, grad, metrics = loss_of("vespo", {}, batch, logp)
    assert grad[0].tolist() == pytest.approx([-0.383907] * 2, abs=1e-6)
    assert metrics == pytest.approx({"vespo/phi": 0.767814, "vespo/log_w": 0.2}, abs=1e-6)


def test_the_bump_is_one_on_policy_and_greatest_at_k_over_lambda() -> None:
    k, damping = torch.tensor([2.0, 3.0]).double(), torch.tensor([3.0, 2.0]).double()
    assert bump(torch.zeros(2).double(), k, damping).tolist() == [1.0, 1.0]
    top = bump((k / damping).log(), k, damping)
    assert top.tolist() == pytest.approx([1.21, 1.24], abs=6e-3)
    for shift in (-0.1, 0.1):
        assert bool((bump((k / damping).log() + shift, k, damping) < top).all())


def test_the_weight_is_the_product_over_the_response() -> None:
    log_ratio, mask = torch.tensor([logs(2.0, 3.0, 9.0), logs(0.5, 1.0, 1.0)]), torch.ones(2, 3)
    mask[0, 2] = 0
    assert log_response_weight(log_ratio, mask).exp().tolist() == pytest.approx([6.0, 0.5])
    far = torch.tensor([[15.0, 15.0], [-1e6, 0.0]])
    assert log_response_weight(far, torch.ones(2, 2)).tolist() == [20.0, -20.0]


def test_the_sampler_s_ratio_enters_the_weight_truncated() -> None:
    batch, logp = batch_of([logs(0.5, 0.5)], [1.0])
    sampled = batch.old["logp"] - torch.tensor([logs(1.5, 8.0)])
    batch = batch.with_(rollout_logp_BT=sampled.double())
    plain = loss_of("vespo", {}, batch, logp)[2]
    with_it = loss_of("vespo", {"sampler_cap": 2.0}, batch, logp)[2]
    assert plain["vespo/log_w"] == pytest.approx(-math.log(0.25))
    assert with_it["vespo/log_w"] == pytest.approx(-math.log(0.25 * 1.5 * 2.0), rel=1e-6)
    for cap, corrects in ((None, False), (2.0, True)):
        weight = registry.load("vespo")(sampler_cap=cap).stages().loss.weight
        assert weight.corrects_rollouts is corrects
