"""DISPO on numbers worked out by hand, in a real step, and what its bounds do to entropy."""

from __future__ import annotations

import pytest
import torch

from harness.stages.loss import FixedBounds
from harness.stages.score import BoundedWeight, score_loss
from methods.entropy_polarity import FACTOR
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.losses import batch_of, logs, loss_of
from tests.methods.support.tabular import Expected, change, stages


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


def test_a_weight_may_have_bounds_for_every_row() -> None:
    class ByRow(FixedBounds):
        def __call__(self, batch, current):  # type: ignore[no-untyped-def]
            out = super().__call__(batch, current)
            return type(out)((torch.tensor([0.9, 0.1]).double(), torch.tensor([1.1, 9.0]).double()))

    batch, logp = batch_of([logs(0.5, 2.0), logs(0.5, 2.0)], [1.0, 1.0])
    prepared = score_loss(BoundedWeight("x", bounds=ByRow())).prepare(batch, {"logp": logp}).value
    assert prepared["weight"].flatten().tolist() == pytest.approx([0.9, 1.1, 0.5, 2.0])


@pytest.mark.parametrize(
    ("setting", "event"),
    [
        ("method.eps_low_pos=0.05", "dispo/floored_pos"),
        ("method.eps_high_neg=0.05", "dispo/capped_neg"),
    ],
)
def test_no_token_is_dropped_in_a_real_step(setting: str, event: str) -> None:
    trainer = tiny_trainer("train.lr=1e-2", setting, method="dispo")
    rows = [trainer.step(), trainer.step()]
    assert all(row["clip_low"] == row["clip_high"] == 0 for row in rows)
    assert max(row[event] for row in rows) > 0


OPEN = {"eps_low_pos": 1.0, "eps_high_pos": 1e6, "eps_low_neg": 1.0, "eps_high_neg": 1e6}


@pytest.mark.parametrize("sharpness", [1.5, 3.0])
@pytest.mark.parametrize(
    ("bound", "sign"),
    [("eps_low_pos", 1), ("eps_high_pos", -1), ("eps_low_neg", -1), ("eps_high_neg", 1)],
)
def test_what_each_bound_of_dispo_does_to_entropy(bound: str, sign: int, sharpness: float) -> None:
    """Fair coins again: only the bound acts, to first order by (w - r) A T over the tokens.

    arXiv 2602.00983 reports of right responses that weights above 1 widen the policy and weights below 1
    narrow it: a cap takes the first away, a floor the second. For wrong responses both signs turn round.
    """
    old = Expected.make(sharpness)
    g = torch.Generator().manual_seed(2)
    logits = old.logits + 0.1 * torch.randn(old.logits.shape, generator=g, dtype=torch.float64)
    tokens = old.tokens.repeat(1, 2)
    coin = torch.ones_like(tokens, dtype=torch.float64)
    coin[:, coin.shape[1] // 2 :] = -1
    free = change(stages("dispo", **OPEN), logits, tokens, coin, 1e-3, old_SK=old.logits)
    assert float(free.abs().max()) < 1e-12
    made = stages("dispo", **OPEN | {bound: 0.1})
    measured = change(made, logits, tokens, coin, 1e-6, old_SK=old.logits) / 1e-6
    logp, old_logp = (z.log_softmax(1).gather(1, tokens) for z in (logits, old.logits))
    ratio = (logp - old_logp).exp()
    here = coin > 0 if bound.endswith("pos") else coin < 0
    weight = ratio.clamp(min=0.9) if "low" in bound else ratio.clamp(max=1.1)
    flat = logits[:, None].expand(-1, tokens.shape[1], -1).reshape(-1, logits.shape[1])
    factor = FACTOR.compute(flat, tokens.reshape(-1)).reshape(tokens.shape)
    predicted = (here * (weight - ratio) * coin * factor).mean(1)
    torch.testing.assert_close(measured, predicted, rtol=1e-2, atol=1e-6)
    assert sign * float(measured.mean()) > 1e-5
