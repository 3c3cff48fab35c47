"""The family "constant weight x A x log-prob" on numbers worked out by hand: DISPO, MinPRO."""

from __future__ import annotations

import math

import pytest
import torch
from test_ratio_methods import batch_of, loss_of

from harness.stages.loss import FixedBounds
from harness.stages.ratios import prefix_minimum
from harness.stages.score import BoundedWeight, score_loss
from tests.helpers.tiny import tiny_trainer


def logs(*ratios: float) -> list[float]:
    return [math.log(r) for r in ratios]


def test_dispo_keeps_four_bounds_apart() -> None:
    """The sheet's numbers at the default bounds: right responses have a floor, wrong ones have none."""
    batch, logp = batch_of([logs(0.5, 20.0), logs(0.2, 20.0)], [1.0, -1.0])
    loss, grad, metrics = loss_of("dispo", {}, batch, logp)
    assert (-4 * grad).flatten().tolist() == pytest.approx([0.8, 11.0, -0.2, -20.0])
    assert loss == pytest.approx((0.8 + 11.0 - 0.2 - 20.0) / 4)  # log-probs are -1
    assert metrics == pytest.approx(
        {"dispo/capped_pos": 0.25, "dispo/floored_pos": 0.25, "dispo/capped_neg": 0, "dispo/floored_neg": 0}
    )
    tight = {"eps_low_neg": 0.3, "eps_high_neg": 0.6}
    _, grad, metrics = loss_of("dispo", tight, batch, logp)
    assert (-4 * grad).flatten().tolist() == pytest.approx([0.8, 11.0, -0.7, -1.6])
    assert metrics["dispo/capped_neg"] == metrics["dispo/floored_neg"] == 0.25


def test_dispo_without_an_advantage_does_nothing() -> None:
    batch, logp = batch_of([logs(0.5, 20.0)], [0.0])
    loss, grad, metrics = loss_of("dispo", {}, batch, logp)
    assert loss == 0 and not bool(grad.any()) and not any(metrics.values())


def test_minpro_takes_the_smallest_ratio_before_the_token() -> None:
    """The sheet's numbers: rho (1.2, 0.5, 1.1, 2.0) between 0.8 and 1.28."""
    batch, logp = batch_of([logs(1.2, 0.5, 1.1, 2.0)], [1.0])
    bounds = {"floor": 0.8, "cap": 1.28}
    _, grad, metrics = loss_of("minpro", bounds, batch, logp)
    assert (-4 * grad[0]).tolist() == pytest.approx([1.2, 0.8, 0.8, 1.0])
    assert metrics == {"minpro/capped": 0.0, "minpro/floored": 0.5}
    free = [1.2, 0.6, 0.55, 1.0]
    _, grad, _ = loss_of("minpro", {}, batch, logp)
    assert (-4 * grad[0]).tolist() == pytest.approx(free)
    _, grad, _ = loss_of("minpro", {"seeded": True}, batch, logp)
    assert (-4 * grad[0]).tolist() == pytest.approx([1.2, 0.5, 0.55, 1.0])


def test_a_prefix_without_tokens_weighs_one_and_holes_do_not_count() -> None:
    log_ratio = torch.tensor([logs(0.5, 0.1, 2.0, 3.0), logs(9.0, 0.1, 4.0, 1.0)])
    mask = torch.tensor([[0, 0, 1, 1], [1, 0, 1, 1]])
    assert prefix_minimum(log_ratio, mask).exp()[mask.bool()].tolist() == pytest.approx([1, 2, 1, 9, 4])
    seeded = prefix_minimum(log_ratio, mask, at_most=0.0).exp()
    assert seeded[mask.bool()].tolist() == pytest.approx([1, 1, 1, 1, 1])


def test_a_weight_may_have_bounds_for_every_row() -> None:
    class ByRow(FixedBounds):
        def __call__(self, batch, current):  # type: ignore[no-untyped-def]
            out = super().__call__(batch, current)
            return type(out)((torch.tensor([0.9, 0.1]).double(), torch.tensor([1.1, 9.0]).double()))

    batch, logp = batch_of([logs(0.5, 2.0), logs(0.5, 2.0)], [1.0, 1.0])
    prepared = score_loss(BoundedWeight("x", bounds=ByRow())).prepare(batch, {"logp": logp}).value
    assert prepared["weight"].flatten().tolist() == pytest.approx([0.9, 1.1, 0.5, 2.0])


@pytest.mark.parametrize(
    ("method", "setting", "event"),
    [
        ("dispo", "method.eps_low_pos=0.05", "dispo/floored_pos"),
        ("dispo", "method.eps_high_neg=0.05", "dispo/capped_neg"),
        ("minpro", "method.cap=1.05", "minpro/capped"),
    ],
)
def test_no_token_is_dropped_in_a_real_step(method: str, setting: str, event: str) -> None:
    trainer = tiny_trainer("train.lr=1e-2", setting, method=method)
    rows = [trainer.step(), trainer.step()]
    assert all(row["clip_low"] == row["clip_high"] == 0 for row in rows)
    assert max(row[event] for row in rows) > 0
