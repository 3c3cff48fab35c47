"""BandPO on numbers worked out by hand, at its limits, and beside DPPO."""

from __future__ import annotations

import math

import pytest
import torch

from methods.bandpo import token_bounds
from methods.dppo import kept_by_tv
from tests.methods.support.losses import batch_of, logs, loss_of


def bounds(kind: str, p: float, delta: float = 0.05, cap: float = 10.0, **options: object) -> list[float]:
    old = torch.tensor([[math.log(p)]], dtype=torch.float64)
    return [float(bound) for bound in token_bounds(kind, old, delta, cap, **options)]  # type: ignore[arg-type]


def test_a_rare_token_has_more_room_upwards_than_a_frequent_one() -> None:
    """The sheet's bands at delta 0.05, in the loss: r = 2 is clipped at 1.625, 2.41 or not at all."""
    batch, logp = batch_of([[math.log(2.0)]], [1.0], logp=math.log(0.16))
    wanted = {"bandpo@tv": 1.625, "bandpo@chi2": 1.758288, "bandpo@kl": 2.0}
    for name, value in wanted.items():
        loss, grad, metrics = loss_of(name, {}, batch, logp)
        assert loss == pytest.approx(-value, abs=1e-6) and bool(grad.any()) == (name == "bandpo@kl")
        assert metrics["bandpo/low"] < 0.4
    assert bounds("kl", 0.9) == pytest.approx([0.866579, 1.076357], abs=1e-6)


@pytest.mark.parametrize(("kind", "low"), [("kl", math.exp(-0.05)), ("tv", 0.95), ("chi2", 1.0)])
def test_near_certainty_and_near_nothing(kind: str, low: float) -> None:
    assert bounds(kind, 1 - 1e-7) == pytest.approx([low, 1.0])
    assert bounds(kind, 1e-8) == [0.0, 10.0]
    assert bounds(kind, 1e-8, cap=1e12) == pytest.approx([0.0, 1e8])


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_certain_token_that_has_not_moved_is_on_its_bounds_and_trains(advantage: float) -> None:
    batch, logp = batch_of([[0.0, 0.0]], [advantage], logp=-(2.0**-21))
    _, grad, metrics = loss_of("bandpo@chi2", {"aggregation": "token-mean"}, batch, logp)
    assert metrics["bandpo/low"] == metrics["bandpo/high"] == 1.0
    assert grad[0].tolist() == pytest.approx([-advantage / 2] * 2)


def test_the_relaxed_band_is_joined_with_the_plain_one() -> None:
    assert bounds("tv", 0.9, relaxed=(0.2, 0.28)) == pytest.approx([0.8, 1.28])
    assert bounds("tv", 0.08, relaxed=(0.2, 0.28)) == pytest.approx([0.375, 1.625])


def test_a_log_prob_of_minus_infinity_has_bounds() -> None:
    old = torch.tensor([[-math.inf, 0.0]])
    for kind in ("kl", "tv", "chi2"):
        assert all(bool(bound.isfinite().all()) for bound in token_bounds(kind, old, 0.05, 10.0))


def test_tv_is_dppo_s_test_as_a_clip() -> None:
    generator = torch.Generator().manual_seed(0)
    old, logp = (
        torch.rand(50, 4, generator=generator, dtype=torch.float64).log().clamp(-9, -0.01) for _ in range(2)
    )
    low, high = token_bounds("tv", old, 0.1, math.inf)
    ratio = (logp - old).exp()
    for sign, inside in ((1.0, ratio <= high), (-1.0, ratio >= low)):
        kept = kept_by_tv(logp, old, torch.full_like(old, sign), 0.1, 0.1)
        assert torch.equal(kept, inside) and 0 < int(kept.sum()) < kept.numel()


def test_the_dual_clip_caps_a_wrong_token_that_grew() -> None:
    batch, logp = batch_of([logs(30.0)], [-1.0])
    loss, grad, _ = loss_of("bandpo@kl", {}, batch, logp)
    assert loss == 10.0 and not bool(grad.any())
