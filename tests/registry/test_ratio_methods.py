"""GSPO, CISPO, Dr. GRPO and clip-low / clip-high on numbers worked out by hand; what they share with GRPO."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pipeline import make_step, plan_of, update
from torch import Tensor

from harness.problems.problem import Problem
from harness.registry import methods as registry
from harness.stages.aggregate import aggregate, token_coefficients
from harness.stages.batch import Batch
from harness.stages.regularise import kl_estimate
from methods.drgrpo import AGGREGATION
from tests.helpers.tiny import tiny_trainer


def batch_of(
    log_ratio: list[list[float]], advantage: list[float], logp: float = -1.0
) -> tuple[Batch, Tensor]:
    """Responses of given log ratios, right-padded, and the current log-probs."""
    rows, width = len(log_ratio), max(map(len, log_ratio))
    mask = torch.zeros(rows, width, dtype=torch.bool)
    old = torch.zeros(rows, width, dtype=torch.float64)
    for i, values in enumerate(log_ratio):
        mask[i, : len(values)] = True
        old[i, : len(values)] = logp - torch.tensor(values, dtype=torch.float64)
    advantage_B = torch.tensor(advantage, dtype=torch.float64)
    batch = Batch(
        prompt_BP=torch.zeros(rows, 1, dtype=torch.long),
        prompt_mask_BP=torch.ones(rows, 1, dtype=torch.bool),
        response_BT=torch.zeros(rows, width, dtype=torch.long), mask_BT=mask,
        group_B=torch.zeros(rows, dtype=torch.long), sample_B=torch.arange(rows),
        temperature_B=torch.ones(rows), truncated_B=torch.zeros(rows, dtype=torch.bool),
        rollout_logp_BT=torch.zeros(rows, width), problems=(Problem("p", "?"),) * rows, texts=("",) * rows,
        old={"logp": old}, advantage_BT=advantage_B[:, None] * mask,
    )  # fmt: skip
    return batch, torch.where(mask, logp, 0.0).double()


def loss_of(name: str, values: dict[str, Any], batch: Batch, logp: Tensor, **options: Any) -> Any:
    """Loss, gradient and metrics of a method's loss stage."""
    stage = registry.load(name)(**values).stages().loss
    leaf = logp.clone().requires_grad_()
    prepared = stage.prepare(batch, {"logp": leaf.detach()})
    per_token = stage(batch, {"logp": leaf}, prepared.value)
    loss = aggregate(stage.aggregation, per_token, batch.mask_BT.double(), length_eps=0.0, **options)
    (grad,) = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), grad, prepared.metrics


def test_gspo_keeps_or_clips_a_response_as_a_whole() -> None:
    batch, logp = batch_of([[0.1, -0.04, 0.03]], [1.0])
    loss, grad, _ = loss_of("gspo", {"eps_high": 0.04}, batch, logp)
    assert loss == pytest.approx(-1.030455, abs=1e-6)
    assert grad.tolist() == [pytest.approx([-0.343485] * 3, abs=1e-6)]
    loss, grad, _ = loss_of("gspo", {"eps_high": 0.02}, batch, logp)
    assert loss == pytest.approx(-1.02) and not bool(grad.any())


def test_gspo_s_ratio_is_bounded_from_above_only() -> None:
    batch, logp = batch_of([[12.0, 12.0], [-30.0, -30.0]], [-1.0, 1.0])
    loss, _, _ = loss_of("gspo", {}, batch, logp)
    assert loss == pytest.approx((math.exp(10) - math.exp(-30)) / 2, rel=1e-12)


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


def test_drgrpo_divides_by_the_budget() -> None:
    batch, logp = batch_of([[0.0] * 2, [0.0] * 4], [0.5, -0.5])  # rewards 1 and 0
    loss, grad, _ = loss_of("drgrpo", {}, batch, logp, width=10)
    assert loss == pytest.approx(0.05)
    assert grad[0].tolist() == pytest.approx([-0.025, -0.025, 0, 0])
    assert grad[1].tolist() == pytest.approx([0.025] * 4)


def test_drgrpo_counts_empty_responses_and_rows_that_do_not_train() -> None:
    mask = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert token_coefficients(AGGREGATION, mask, width=4).tolist() == [[0.125, 0.125, 0.0], [0.0, 0.0, 0.0]]


def test_drgrpo_is_grpo_with_two_options() -> None:
    step = make_step(2, minibatches=1)
    same = registry.load("grpo")(scale="none", aggregation=AGGREGATION).stages()
    other = registry.load("drgrpo")().stages()
    (mine,), (theirs,) = plan_of(other, step), plan_of(same, step)
    torch.testing.assert_close(update(other, step, mine), update(same, step, theirs), rtol=1e-9, atol=1e-12)


def test_the_log_ratio_of_the_kl_is_clamped() -> None:
    far = torch.tensor([-50.0, -1.0], dtype=torch.float64, requires_grad=True)
    k3 = kl_estimate("k3", far, torch.zeros(2), exponent_clamp=None, value_clamp=None, log_ratio_clamp=40.0)
    (grad,) = torch.autograd.grad(k3.sum(), far)
    assert k3.tolist() == pytest.approx([math.expm1(40) - 40, math.expm1(1) - 1])
    assert grad.tolist() == pytest.approx([0.0, 1 - math.e])


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "grad"),
    [(-1.0, 0.85, 0.9, 0.0), (1.0, 5.0, -5.0, -5.0), (1.0, 0.5, -0.5, -0.5), (-1.0, 1.3, 1.3, 1.3)],
)
def test_clip_low_alone(advantage: float, ratio: float, loss: float, grad: float) -> None:
    batch, logp = batch_of([[math.log(ratio)]], [advantage])
    got, gradient, _ = loss_of("clip-low-high", {"eps_low": 0.1, "eps_high": None}, batch, logp)
    assert got == pytest.approx(loss) and gradient.item() == pytest.approx(grad)


def test_a_side_is_off_in_either_form() -> None:
    batch, logp = batch_of([[-6.0, 0.0, 4.0], [-6.0, 0.3, 4.0]], [1.0, -1.0])
    for values in ({"eps_low": 1.0, "eps_high": 0.1}, {"eps_low": 3.0, "eps_high": 0.1}):
        off = loss_of("clip-low-high", {**values, "eps_low": None}, batch, logp)
        loss, grad, _ = loss_of("clip-low-high", values, batch, logp)
        assert loss == off[0] and torch.equal(grad, off[1])


def test_both_event_rates_are_logged() -> None:
    """``clip_low`` and ``clip_high`` of a real step; the side that is off logs 0."""
    sides = {"method.eps_low=0.05": "clip_low", "method.eps_low=null method.eps_high=0.05": "clip_high"}
    for setting, on in sides.items():
        trainer = tiny_trainer("train.lr=1e-2", *setting.split(), method="clip-low-high")
        rows = [trainer.step(), trainer.step()]
        off = ({"clip_low", "clip_high"} - {on}).pop()
        assert max(row[on] for row in rows) > 0 and all(row[off] == 0 for row in rows)
