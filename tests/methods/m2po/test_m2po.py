"""M2PO on numbers worked out by hand, and which policies it compares."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.registry import methods as registry
from methods.m2po import budget_bound, within_budget
from tests.helpers.tiny import tiny_trainer
from tests.methods.m2po import reading
from tests.methods.support.losses import batch_of, loss_of
from tests.methods.support.pipeline import make_step, plan_of, rows_of, update

FIVE = [0.05, 0.1, 0.2, 0.3, 0.5]


def sampled_by_the_old(log_ratio: list[list[float]], advantage: list[float]) -> Any:
    batch, logp = batch_of(log_ratio, advantage)
    return batch.with_(rollout_logp_BT=batch.old["logp"]), logp


def test_the_sheet_s_five_tokens_in_the_paper_s_form() -> None:
    batch, logp = sampled_by_the_old([FIVE], [1.0])
    loss, grad, metrics = loss_of("m2po@paper", {}, batch, logp)
    assert metrics == pytest.approx({"m2po/before": 0.0785, "m2po/after": 0.035625, "m2po/dropped": 0.2})
    kept = [math.exp(d) for d in FIVE[:4]]
    assert loss == pytest.approx(-sum(kept) / 5)
    assert (-5 * grad[0]).tolist() == pytest.approx([*kept, 0.0])


def test_the_sheet_s_five_tokens_in_the_released_form() -> None:
    batch, logp = sampled_by_the_old([FIVE], [1.0])
    _, grad, metrics = loss_of("m2po@released", {}, batch, logp)
    assert metrics["m2po/high"] == pytest.approx(1.221403, abs=1e-6)
    assert (grad[0] != 0).tolist() == [True, True, False, False, False]
    _, _, floored = loss_of("m2po@released", {"miniclip_low": 0.3, "miniclip_high": 0.5}, batch, logp)
    assert (floored["m2po/low"], floored["m2po/high"]) == pytest.approx((0.7, 1.5))


def test_the_token_that_the_release_s_bound_comes_from_is_clipped_in_float32_too() -> None:
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        wild = torch.randn(1, 40, generator=draw) / 2
        trains = []
        for dtype in (torch.float64, torch.float32):
            batch, _ = batch_of(wild.tolist(), [1.0])
            logp = torch.zeros(1, 40, dtype=dtype)
            batch = batch.with_(rollout_logp_BT=-wild.to(dtype), advantage_BT=batch.advantage_BT.to(dtype))
            trains.append(loss_of("m2po@released", {}, batch, logp)[1] != 0)
        assert torch.equal(*trains) and not bool(trains[0].all())


def test_within_the_budget_nothing_happens() -> None:
    batch, logp = sampled_by_the_old([FIVE], [1.0])
    for name in ("m2po@paper", "m2po@released"):
        loss, _, _ = loss_of(name, {"m2_threshold": 0.08}, batch, logp)
        assert loss == pytest.approx(-sum(map(math.exp, FIVE)) / 5)
    assert budget_bound(torch.tensor([]), 0.04) is None


@pytest.mark.parametrize("name", ["m2po@paper", "m2po@released"])
def test_the_harmless_side_and_rows_without_advantage_are_never_touched(name: str) -> None:
    batch, logp = sampled_by_the_old([[-3.0, -2.0], [5.0, 4.0], [6.0, -6.0]], [1.0, -1.0, 0.0])
    _, grad, metrics = loss_of(name, {}, batch, logp)
    assert metrics["m2po/before"] == 0.0
    assert bool((grad[:2] != 0).all()) and not bool(grad[2].any())


def test_a_far_ratio_is_bounded_in_value_and_keeps_its_gradient() -> None:
    batch, logp = sampled_by_the_old([[25.0]], [-1.0])
    loss, grad, _ = loss_of("m2po@paper", {}, batch, logp)
    assert loss == grad.item() == pytest.approx(math.exp(20))


def test_areal_drops_the_largest_until_the_mean_is_below_and_keeps_one() -> None:
    square, region = torch.tensor([[0.25, 0.125, 0.375, 9.0]]), torch.tensor([[True, True, True, False]])
    assert within_budget(square, region, 0.25).tolist() == [[True, True, True, False]]
    assert within_budget(square, region, 0.25, strict=True).tolist() == [[True, True, False, False]]
    assert within_budget(square, region, 1e-6).tolist() == [[False] * 4]
    one = within_budget(square, region, 1e-6, strict=True, least=1)
    assert one.tolist() == [[False, True, False, False]]


def test_areal_equals_its_reading_where_the_sampler_is_another_policy() -> None:
    step = make_step(3)
    noise = torch.randn(step.batch.mask_BT.shape, generator=torch.Generator().manual_seed(0)).double()
    step = replace(step, batch=step.batch.with_(rollout_logp_BT=step.batch.rollout_logp_BT + 0.3 * noise))
    method = registry.load("m2po@areal")(m2_threshold=0.03)
    metrics: dict[str, float] = {}
    for minibatch in plan_of(method.stages(), step, metrics):
        x = replace(step.recorded(), variant="areal")
        expected = reading.loss(x, method.hyperparameters(), rows_of([minibatch]))
        (grad,) = torch.autograd.grad(expected, x.logits)
        value, ours = update(method.stages(), step, minibatch)
        assert value == pytest.approx(float(expected.detach()), rel=1e-6)
        torch.testing.assert_close(ours, grad, rtol=1e-5, atol=1e-8)
    assert 0.1 < metrics["m2po/dropped"] < 0.9 and metrics["m2po/after"] < 0.03 < metrics["m2po/before"]


@pytest.mark.filterwarnings("ignore:step 2. the rollouts of engine builtin")
def test_areal_drops_tokens_of_rollouts_that_waited() -> None:
    waited = ("rollout.lag=1", "rollout.ratio_to=update", "rollout.correction=none", "train.lr=1e-2")
    small = ("rollout.prompts_per_step=2", "rollout.group_size=4", "train.minibatches=1", "train.epochs=1")
    trainer = tiny_trainer(*waited, *small, "method.m2_threshold=1e-6", method="m2po@areal")
    assert [trainer.step()["m2po/dropped"] > 0 for _ in range(2)] == [False, True]
