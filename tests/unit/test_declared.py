"""Statistics read together from whole rows against the formula of each alone: values, gradients, memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.model import declared, log_prob
from harness.model.declared import DeclaredStats
from harness.model.head import HeadCurve
from harness.model.logits import token_stats
from harness.stages import distribution
from harness.stages import token_stats as stage
from harness.stages.distribution import Distribution, best
from harness.stages.nucleus import kept, nucleus
from harness.stages.token_stats import (
    ENTROPY,
    LOGP,
    LogProb,
    MinPForwardKL,
    MinPLogProb,
    NucleusEntropy,
    TokenStat,
)
from harness.stages.top_tokens import TopEntropy, TopToken
from methods.entropy_polarity import FACTOR
from methods.era import TopLogProb
from methods.gtpo import FlooredEntropy
from methods.softmax_radius import LogitSpread, TopGap
from tests.helpers.live_bytes import LiveBytes

N, D, V = 11, 6, 301
STATS: tuple[TokenStat, ...] = (
    LOGP,
    ENTROPY,
    *(LogProb(scale=scale) for scale in (2.0, 0.5, 1.3)),
    *(TopLogProb(scale=scale, size=3) for scale in (1.0, 2.0)),
    TopLogProb("few", 0.5, 300),
    FlooredEntropy(floor=1e-3),
    NucleusEntropy(top_p=0.5),
    NucleusEntropy("in", top_p=0.9, inclusive=True),
    NucleusEntropy("cut", top_p=0.99, top_k=90),
    NucleusEntropy("one", top_k=1),
    MinPLogProb(min_p=0.1),
    MinPLogProb("soft", min_p=0.1, soft=True),
    MinPForwardKL(min_p=0.1),
    FACTOR,
    TopEntropy(k=5, tail=True),
    LogitSpread(),
    TopGap(),
)


def inputs(dtype: torch.dtype = torch.float64, sharpness: float = 1.0) -> tuple[Tensor, ...]:
    """Hidden states, head, bias, tokens; the first are the likeliest ones."""
    generator = torch.Generator().manual_seed(5)
    sharp = sharpness * torch.linspace(0.1, 3, N, dtype=dtype)[:, None]
    hidden = (torch.randn(N, D, dtype=dtype, generator=generator) * sharp).requires_grad_()
    weight = torch.randn(V, D, dtype=dtype, generator=generator).requires_grad_()
    bias = torch.randn(V, dtype=dtype, generator=generator).requires_grad_()
    target = torch.randint(V, (N,), generator=generator)
    best = (hidden @ weight.T + bias).argmax(1)
    return hidden, weight, bias, torch.where(torch.arange(N) % 2 == 0, best, target)


@pytest.fixture(params=[(1 << 19, 64, 64), (700, 4, 8)], ids=["at once", "few"])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All in the cache and in the first look, or two positions at a time and rarely found at first."""
    cached, looked, neighbours = request.param
    for module in (declared, log_prob):
        monkeypatch.setattr(module, "CACHED", cached)
    monkeypatch.setattr(stage, "FEW", looked)
    monkeypatch.setattr(distribution, "NEIGHBOURS", neighbours)


@pytest.mark.parametrize("stat", STATS, ids=lambda stat: stat.name)
@pytest.mark.parametrize(
    ("temperature", "curve", "chunk"),
    [
        (1.0, HeadCurve(), 50),
        (0.7, HeadCurve(), 4),
        (1.0, HeadCurve(0.8, 3.0), 5),
        (1.4, HeadCurve(1.0, 2.0), 50),
    ],
)
@pytest.mark.usefixtures("few")
def test_values_and_gradients_are_those_of_the_formula_alone(
    stat: TokenStat, temperature: float, curve: HeadCurve, chunk: int
) -> None:
    hidden, weight, bias, target = inputs()
    leaves = (hidden, weight, bias)
    # a scaled log-prob beside it, so that log-prob and entropy go through whole rows, too
    stats = tuple(dict.fromkeys([stat, LogProb(scale=3.0)]))
    got = token_stats(
        hidden, weight, target, stats, bias_V=bias, temperature=temperature, chunk=chunk, curve=curve
    )[stat.name]
    want = stat.at_temperature(curve(hidden @ weight.T + bias) / temperature, target, temperature)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    mix = torch.randn(N, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    mix[3:6] = 0.0  # a loss may leave positions out
    ours = torch.autograd.grad((got * mix).sum(), leaves, retain_graph=True)
    again = torch.autograd.grad((got * mix).sum(), leaves)
    theirs = torch.autograd.grad((want * mix).sum(), leaves)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(again, ours, rtol=1e-12, atol=1e-12)  # what was kept is used up, so anew


@pytest.mark.usefixtures("few")
def test_gradients_of_all_statistics_add_up() -> None:
    hidden, weight, bias, target = inputs()
    got = token_stats(hidden, weight, target, STATS, bias_V=bias, chunk=4)
    mix = torch.randn(len(STATS), N, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    logits = hidden @ weight.T + bias
    ours = sum((got[stat.name] * m).sum() for stat, m in zip(STATS, mix, strict=True))
    theirs = sum((stat.compute(logits, target) * m).sum() for stat, m in zip(STATS, mix, strict=True))
    leaves = (hidden, weight, bias)
    torch.testing.assert_close(
        torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_numbers_are_read_in_fp32(dtype: torch.dtype) -> None:
    hidden, weight, bias, target = (x.detach().to(dtype) if x.is_floating_point() else x for x in inputs())
    weight.requires_grad_()
    stats = (LOGP, LogProb(scale=2.0), NucleusEntropy())
    got = token_stats(hidden, weight, target, stats, bias_V=bias, chunk=4)
    wide = weight.detach().float().requires_grad_()
    logits = hidden.float() @ wide.T + bias.float()
    for stat in stats:
        assert got[stat.name].dtype == torch.float32
        torch.testing.assert_close(got[stat.name], stat.compute(logits, target), rtol=1e-4, atol=1e-4)
    (grad,) = torch.autograd.grad(got["logp@2"].sum(), weight)
    (want,) = torch.autograd.grad(stats[1].compute(logits, target).sum(), wide)
    near = 2e-2 if dtype is torch.bfloat16 else 1e-4
    assert grad.dtype == dtype and float((grad.float() - want).norm() / want.norm()) < near


def test_a_statistic_without_a_gradient_gives_none() -> None:
    hidden, weight, bias, target = inputs()
    got = token_stats(hidden, weight, target, (TopToken(), LOGP), bias_V=bias)
    assert torch.equal(got["top_token"].long(), (hidden @ weight.T + bias).argmax(1))
    (grad,) = torch.autograd.grad((got["top_token"] * 2).sum() + 0 * got["logp"].sum(), weight)
    assert not grad.any()


def test_no_position_and_frozen_weights() -> None:
    hidden, weight, bias, target = inputs()
    none = token_stats(hidden[:0], weight, target[:0], STATS, bias_V=bias)
    grads = torch.autograd.grad(sum(x.sum() for x in none.values()), (hidden, weight))
    assert not any(g.any() for g in grads)
    got = token_stats(hidden, weight.detach(), target, STATS, bias_V=bias.detach(), chunk=4)
    want = token_stats(hidden, weight, target, STATS, bias_V=bias, chunk=4)
    first, second = (torch.autograd.grad(x["logp@2"].sum(), hidden)[0] for x in (got, want))
    assert torch.equal(first, second)


def test_one_product_with_the_head_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, bias, target = inputs()
    written: list[int] = []
    write = declared.Head.write

    def counted(head: Any, tile: Any, out: Tensor) -> Tensor:
        written.append(tile.cells)
        return write(head, tile, out)

    monkeypatch.setattr(declared.Head, "write", counted)
    got = token_stats(hidden, weight, target, STATS, bias_V=bias)
    assert sum(written) == N * V
    torch.autograd.grad(sum(x.sum() for x in got.values()), (hidden, weight))
    assert sum(written) == N * V  # kept
    got = token_stats(hidden, weight, target, STATS, bias_V=bias, chunk=4)
    torch.autograd.grad(sum(x.sum() for x in got.values()), (hidden, weight))
    assert sum(written) == N * V * 3 - (N % 4) * V  # the last piece is kept


def test_the_budget_holds_for_forward_and_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "CACHED", 4000)
    monkeypatch.setattr(log_prob, "CACHED", 4000)
    hidden, weight = torch.randn(256, 4, requires_grad=True), torch.randn(2000, 4, requires_grad=True)
    with LiveBytes() as held:
        stats = (LOGP, ENTROPY, LogProb(scale=2.0), LogProb(scale=0.3), FlooredEntropy())
        out = token_stats(hidden, weight, torch.zeros(256, dtype=torch.long), stats, chunk=32)
        torch.autograd.grad(sum(x.sum() for x in out.values()), (hidden, weight))
    budget, block = 4 * 32 * 2000, 4 * 4000
    assert budget < held.peak < budget + 2 * weight.nbytes + 14 * block


def test_a_second_derivative_is_refused() -> None:
    hidden, weight, _, target = inputs()
    out = token_stats(hidden, weight, target, (LogProb(scale=2.0),))["logp@2"]
    assert type(out.grad_fn).__name__ == f"{DeclaredStats.__name__}Backward"
    (grad,) = torch.autograd.grad(out.pow(2).sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("vocab", [64, 1000, 4096, 4100])
def test_the_largest_are_those_of_topk(vocab: int) -> None:
    value = torch.randn(5, vocab, generator=torch.Generator().manual_seed(vocab))
    value[1, -3:] = 9.0 + torch.arange(3)
    for size in (1, 7, 2000):
        values, ids = best(value, size)
        want = value.topk(min(size, vocab), 1)
        assert torch.equal(values, want.values) and torch.equal(value.gather(1, ids), values)


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("shape", ["flat", "peaked", "equal", "two values"])
@pytest.mark.parametrize("share", [1e-9, 0.3, 0.8, 1.0])
def test_a_nucleus_is_that_of_a_sorted_row(inclusive: bool, shape: str, share: float) -> None:
    size, generator = 5000, torch.Generator().manual_seed(2)
    noise = torch.randn(size, generator=generator, dtype=torch.float64)
    row = {
        "flat": (0.4 * noise).exp(),
        "peaked": (3 * noise).exp(),
        "equal": torch.ones(size, dtype=torch.float64),
        "two values": torch.where(noise > 1, 1.0, 0.25).double(),
    }[shape]
    row = row / row.max()
    ordered = row.sort(descending=True).values
    reached = ordered.cumsum(0)
    under = (reached - ordered if inclusive else reached) < share * float(row.sum())
    for most in (1, 70, 2000, size):
        found = nucleus(row, share * float(row.sum()), most, inclusive)
        count = min(int(under.sum()), most)
        assert abs(len(found) - count) <= (share == 1.0)  # the last one is within rounding
        assert torch.equal(found, ordered[: len(found)])
        left = kept(row, found)
        torch.testing.assert_close(left.sum(), found.sum())
        assert not left[row < (found[-1] if count else 2.0)].any()


def test_what_is_shared_is_what_it_is_called() -> None:
    hidden, weight, _, target = inputs()
    logits = (hidden @ weight.T).detach()
    at = Distribution(logits, target)
    p = logits.softmax(1)
    torch.testing.assert_close(at.e_NV / at.total_N[:, None], p)
    torch.testing.assert_close(at.entropy_N, -(p * p.log()).sum(1))
    for scale in (0.5, 1.0, 2.0, 2.7):
        powers = (scale * (logits - logits.amax(1, keepdim=True))).exp()
        torch.testing.assert_close(at.power_sum_N(scale), powers.sum(1))
        torch.testing.assert_close(at.power_NV(scale), powers)
