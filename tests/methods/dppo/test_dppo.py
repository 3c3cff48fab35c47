"""DPPO on numbers worked out by hand, and against which policy it measures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from harness.config.schema import RunConfig
from harness.registry import methods as registry
from tests.methods.support.losses import batch_of, loss_of

MEAN = {"aggregation": "token-mean"}


def one_token(mu: float, p: float, advantage: float) -> Any:
    """A response of one token, sampled with probability mu, that now has probability p."""
    batch, _ = batch_of([[0.0]], [advantage])
    sampled = torch.full((1, 1), math.log(mu), dtype=torch.float64)
    return batch.with_(rollout_logp_BT=sampled), torch.full_like(sampled, math.log(p))


def test_a_rare_token_may_grow_a_hundredfold() -> None:
    """The sheet's first token: kept in spite of r = 100, with the weight of the cap."""
    batch, logp = one_token(1e-4, 1e-2, 1.0)
    loss, grad, metrics = loss_of("dppo@tv", {"delta_high": 0.15, "cap": 20.0, **MEAN}, batch, logp)
    assert (loss, grad.item()) == pytest.approx((92.103404, -20.0), abs=1e-6)
    assert metrics == {"dppo/capped": 1.0, "dppo/dropped": 0.0}


def test_a_frequent_token_may_not_fall_far_though_its_ratio_is_near_one() -> None:
    """The sheet's second: r = 0.808, inside PPO's range, and dropped."""
    batch, logp = one_token(0.99, 0.80, -1.0)
    for name, values in (("dppo@tv", {"delta_low": 0.15}), ("dppo@kl", {"delta_low": 0.05})):
        loss, grad, metrics = loss_of(name, {**values, **MEAN}, batch, logp)
        assert loss == 0.0 and grad.item() == 0.0 and metrics["dppo/dropped"] == 1.0
    batch, logp = one_token(1e-4, 1e-2, 1.0)
    assert loss_of("dppo@kl", MEAN, batch, logp)[2]["dppo/dropped"] == 0.0


@pytest.mark.parametrize(
    ("mu", "p", "advantage", "kept"),
    [(0.5, 0.9, -1.0, 1.0), (0.5, 0.1, 1.0, 1.0), (0.5, 0.9, 1.0, 0.0), (0.5, 0.1, -1.0, 0.0)],
)
@pytest.mark.parametrize("name", ["dppo@tv", "dppo@kl", "dppo@prime"])
def test_a_step_back_is_never_dropped(name: str, mu: float, p: float, advantage: float, kept: float) -> None:
    batch, logp = one_token(mu, p, advantage)
    _, grad, metrics = loss_of(name, {} if name == "dppo@prime" else MEAN, batch, logp)
    assert metrics["dppo/dropped"] == 1.0 - kept and bool(grad.any()) == bool(kept)


def test_prime_pulls_every_token_back_and_those_that_are_dropped_alone() -> None:
    batch, logp = one_token(0.5, 0.9, 1.0)
    stages = registry.load("dppo@prime")(kl_tau=0.1).stages()
    (pull,) = stages.regularisers
    leaf = logp.clone().requires_grad_()
    pull(batch, {"logp": leaf}, {}).sum().backward()
    d = math.log(0.9 / 0.5)
    assert pull.coefficient() == 0.1 and leaf.grad is not None
    assert leaf.grad.item() == pytest.approx(2 * d)
    loss, grad, _ = loss_of("dppo@prime", {"delta_high": 0.5, "adv_tau": 2.0}, batch, logp)
    assert (loss, grad.item()) == pytest.approx((-3.6, -3.6))


def test_it_measures_from_the_policy_that_sampled() -> None:
    batch, logp = one_token(0.5, 0.9, 1.0)
    batch = batch.with_(old={"logp": logp})  # recomputed log-probs do not count
    assert loss_of("dppo@tv", MEAN, batch, logp)[2]["dppo/dropped"] == 1.0


def test_one_update_is_enough_where_rollouts_are_old() -> None:
    run = RunConfig()
    run.train.minibatches = run.train.epochs = run.rollout.lag = 1
    registry.load("dppo@tv")().validate(run)
