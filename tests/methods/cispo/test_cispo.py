"""CISPO on numbers worked out by hand, and what it shares with GRPO."""

from __future__ import annotations

import math

import pytest
import torch

from harness.registry import methods as registry
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.losses import batch_of, loss_of
from tests.methods.support.pipeline import make_step, plan_of, update


def test_cispo_weighs_by_a_capped_constant() -> None:
    batch, _ = batch_of([[1.0]], [2.0])
    loss, grad, metrics = loss_of("cispo", {"cap": 1.5}, batch, torch.full((1, 1), -1.0).double())
    assert loss == pytest.approx(3.0) and grad.item() == pytest.approx(-3.0)
    assert metrics == {"cispo/capped": 1.0, "cispo/floored": 0.0}


def test_cispo_has_no_floor_unless_asked() -> None:
    batch, logp = batch_of([[-2.0, 0.0, 0.1, 3.0]], [1.0])
    _, grad, metrics = loss_of("cispo", {}, batch, logp)
    assert (-4 * grad[0]).tolist() == pytest.approx([math.exp(-2), 1, math.exp(0.1), 5])
    assert metrics == {"cispo/capped": 0.25, "cispo/floored": 0.0}
    _, grad, metrics = loss_of("cispo", {"floor": 0.8}, batch, logp)
    assert -4 * grad[0, 0].item() == pytest.approx(0.8)
    assert metrics == {"cispo/capped": 0.25, "cispo/floored": 0.25}


def test_cispo_s_first_update_has_grpo_s_gradient() -> None:
    step = make_step(1, minibatches=1)
    on_policy = type(step)(step.batch, step.old, step.old, step.reference, step.ctx)
    grads = []
    for name, values in (("cispo", {}), ("grpo", {"aggregation": "token-mean"})):
        stages = registry.load(name)(**values).stages()
        (minibatch,) = plan_of(stages, on_policy)
        grads.append(update(stages, on_policy, minibatch)[1])
    torch.testing.assert_close(*grads, rtol=1e-6, atol=1e-9)
    assert bool(grads[0].any())


def test_cispo_drops_no_token() -> None:
    trainer = tiny_trainer("train.lr=1e-2", "method.cap=1.1", method="cispo")
    rows = [trainer.step(), trainer.step()]
    assert all(row["clip_low"] == row["clip_high"] == row["cispo/floored"] == 0 for row in rows)
    assert max(row["cispo/capped"] for row in rows) > 0
