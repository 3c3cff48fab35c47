"""Clip-low and clip-high on numbers worked out by hand, in a real step, and what they do to entropy."""

from __future__ import annotations

import math

import pytest
import torch

from methods.entropy_polarity import FACTOR
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.losses import batch_of, loss_of
from tests.methods.support.tabular import PLAIN, Expected, change, stages


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


@pytest.mark.parametrize(
    ("bounds", "sign"),
    [({"eps_low": 0.2, "eps_high": math.inf}, 1), ({"eps_low": 1.0, "eps_high": 0.2}, -1)],
    ids=["clip-low", "clip-high"],
)
@pytest.mark.parametrize("sharpness", [1.5, 3.0])
def test_clip_low_raises_and_clip_high_lowers_entropy(bounds: dict, sign: int, sharpness: float) -> None:
    """Fair coins as rewards: without clipping the expected step is 0, and what is left is the clip's alone.

    arXiv 2509.26114. To first order it is minus the sum of r A T over the clipped tokens, the polarity that
    they no longer contribute. The policy has moved little, as after one update of a rollout batch: far from
    the one that drew, clip-high's sign ends (test_clip_entropy.py).
    """
    old = Expected.make(sharpness)
    g = torch.Generator().manual_seed(2)
    logits = old.logits + 0.1 * torch.randn(old.logits.shape, generator=g, dtype=torch.float64)
    tokens = old.tokens.repeat(1, 2)
    coin = torch.ones_like(tokens, dtype=torch.float64)
    coin[:, coin.shape[1] // 2 :] = -1
    unclipped = change(stages("grpo", **PLAIN), logits, tokens, coin, 1e-3, old_SK=old.logits)
    assert float(unclipped.abs().max()) < 1e-12
    made = stages("grpo", aggregation="token-mean", **bounds)
    measured = change(made, logits, tokens, coin, 1e-6, old_SK=old.logits) / 1e-6
    logp, old_logp = (z.log_softmax(1).gather(1, tokens) for z in (logits, old.logits))
    ratio = (logp - old_logp).exp()
    clipped = ((coin < 0) & (ratio < 1 - bounds["eps_low"])) | ((coin > 0) & (ratio > 1 + bounds["eps_high"]))
    flat = logits[:, None].expand(-1, tokens.shape[1], -1).reshape(-1, logits.shape[1])
    factor = FACTOR.compute(flat, tokens.reshape(-1)).reshape(tokens.shape)
    predicted = -(clipped * ratio * coin * factor).mean(1)
    assert 0.001 < float(clipped.double().mean()) < 0.2
    torch.testing.assert_close(measured, predicted, rtol=1e-2, atol=1e-6)
    assert sign * float(measured.mean()) > 1e-5
