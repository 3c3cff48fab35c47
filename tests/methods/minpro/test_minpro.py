"""MinPRO on numbers worked out by hand, and in a real step."""

from __future__ import annotations

import pytest
import torch

from harness.stages.ratios import prefix_minimum
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.losses import batch_of, logs, loss_of


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


@pytest.mark.parametrize(
    ("setting", "event"),
    [
        ("method.cap=1.05", "minpro/capped"),
    ],
)
def test_no_token_is_dropped_in_a_real_step(setting: str, event: str) -> None:
    trainer = tiny_trainer("train.lr=1e-2", setting, method="minpro")
    rows = [trainer.step(), trainer.step()]
    assert all(row["clip_low"] == row["clip_high"] == 0 for row in rows)
    assert max(row[event] for row in rows) > 0
