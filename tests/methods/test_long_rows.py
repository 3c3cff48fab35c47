"""No method overflows: responses of 8,192 tokens, log ratios of +-100 and +-1000, every registered entry."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.stages.loss import exponent_limit, finite_exp
from harness.stages.regularise import KL_ESTIMATORS, kl_estimate
from harness.train.metrics import optimiser_metrics, update_metrics
from harness.train.off_policy import mismatch_metrics
from harness.train.update import UpdateLog, backward
from tests.methods.support.long import LENGTH_T, PLACES, TOTAL_B, long_step
from tests.methods.support.pipeline import plan_of
from tests.methods.support.registered import SETTINGS, make

CASES = [(place, "old") for place in PLACES] + [("one token", "current"), ("spread", "current")]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda p: f"{p[0]} {p[1]}")
def test_loss_gradient_and_metrics_are_finite(setting: tuple[str, dict[str, Any]]) -> None:
    for place, reference in CASES:
        step, metrics = long_step(place, reference), dict[str, float]()
        stages = make(*setting)
        for component in stages.all_components().values():
            component.begin_step(step.ctx)
        plan = plan_of(stages, step, metrics)
        assert plan
        for minibatch in plan:
            leaf = step.current.logits_BTV.clone().requires_grad_()
            policy: Any = replace(step.current, logits_BTV=leaf)
            log = UpdateLog()
            loss, multiplier = backward(policy, stages, minibatch, log, micro_rows=2, width=LENGTH_T)
            gradient = torch.zeros(1) if leaf.grad is None else leaf.grad
            norm = float(torch.nn.utils.clip_grad_norm_([leaf], 1.0)) if leaf.grad is not None else 0.0
            metrics |= {"loss": loss, "multiplier": multiplier, **log.sums, **optimiser_metrics(log, [norm])}
            assert bool(gradient.isfinite().all()), (place, reference)
        assert [f"{k}={v}" for k, v in metrics.items() if not math.isfinite(v)] == [], (place, reference)


def test_the_steps_are_what_they_say() -> None:
    for place, reference in CASES:
        step = long_step(place, reference)
        mask = step.batch.mask_BT
        old, current = (p.stats(step.batch, _logp())["logp"] for p in (step.old, step.current))
        total = torch.where(mask, current - old, 0.0).sum(1)
        scale = LENGTH_T / 10 if place == "every token" else 1.0
        assert old.dtype == torch.float32
        torch.testing.assert_close(total, torch.tensor(TOTAL_B) * scale, rtol=5e-3, atol=0.0)
        batch = step.batch.with_(old={"logp": current, "entropy": torch.ones_like(current)})
        told = mismatch_metrics(batch, 2.0) | update_metrics(batch)
        assert all(map(math.isfinite, told.values()))


def _logp() -> Any:
    from harness.stages.token_stats import LOGP

    return (LOGP,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_exp_is_exp_up_to_its_bound(dtype: torch.dtype) -> None:
    limit = exponent_limit(dtype)
    assert limit == pytest.approx({torch.float32: 34.36, torch.float64: 344.89}[dtype], abs=0.01)
    inside = torch.linspace(-120.0, limit, 4001, dtype=dtype)
    beyond = torch.tensor([limit + 1, 90.0 + limit, 1e4, 8e5], dtype=dtype)
    for given in (inside, torch.cat([inside, beyond])):
        leaf, plain = given.clone().requires_grad_(), inside.clone().requires_grad_()
        value = finite_exp(leaf)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        (wanted,) = torch.autograd.grad(plain.exp().sum(), plain)
        assert torch.equal(value[:4001], inside.exp()) and torch.equal(gradient[:4001], wanted)
        top = torch.full_like(beyond, limit).exp()
        assert torch.equal(value[4001:], top[: len(given) - 4001])
        assert torch.equal(gradient[4001:], top[: len(given) - 4001])
        assert math.isfinite(float((value.detach() ** 2).sum()) * LENGTH_T)


@pytest.mark.parametrize("name", KL_ESTIMATORS)
def test_unclamped_kl_estimates_are_finite(name: str) -> None:
    logp = torch.tensor([-1000.0, -100.0, -0.5, -0.5], requires_grad=True)
    estimate = kl_estimate(
        name, logp, torch.tensor([-0.5, -0.5, -100.0, -1000.0]), exponent_clamp=None, value_clamp=None
    )
    (gradient,) = torch.autograd.grad(estimate.sum(), logp)
    assert bool(estimate.isfinite().all()) and bool(gradient.isfinite().all())
