"""The log-prob and entropy operator against the plain computation: values, gradients, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from harness.model import log_prob
from harness.model.head import HeadCurve
from harness.model.logits import chunk_rows, token_stats
from harness.stages.token_stats import (
    ENTROPY,
    LOGP,
    LogProb,
    MinPForwardKL,
    MinPLogProb,
    NucleusEntropy,
    TokenStat,
)
from tests.helpers.live_bytes import LiveBytes

N, D, V = 13, 8, 17


@dataclass(frozen=True)
class TopProbability(TokenStat):
    """A custom statistic: probability of the likeliest token, smoothly."""

    name: str = "top"

    def compute(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        return logits_NV.softmax(1).pow(4).sum(1)


STATS = (LOGP, ENTROPY, LogProb(scale=2.0), TopProbability())


def inputs(dtype: torch.dtype, bias: bool) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(N, D, dtype=dtype, generator=generator).requires_grad_()
    weight = torch.randn(V, D, dtype=dtype, generator=generator).requires_grad_()
    bias_V = torch.randn(V, dtype=dtype, generator=generator).requires_grad_() if bias else None
    return hidden, weight, bias_V, torch.randint(V, (N,), generator=generator)


def plain(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, temperature: float
) -> dict[str, Tensor]:
    logits = hidden @ weight.T
    logits = (logits if bias is None else logits + bias) / temperature
    logp = logits.log_softmax(1)
    probability = logp.exp()
    picked = target[:, None]
    return {
        "logp": logp.gather(1, picked)[:, 0],
        "entropy": -(probability * logp).sum(1),
        "logp@2": (2 * logits).log_softmax(1).gather(1, picked)[:, 0],
        "top": (probability**4).sum(1),
    }


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
@pytest.mark.parametrize("chunk", [1, 4, 13, 50])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_values_and_gradients_equal_the_plain_computation(
    dtype: torch.dtype, tolerance: float, chunk: int, temperature: float, bias: bool
) -> None:
    hidden, weight, bias_V, target = inputs(dtype, bias)
    leaves = [x for x in (hidden, weight, bias_V) if x is not None]
    own = token_stats(hidden, weight, target, STATS, bias_V=bias_V, temperature=temperature, chunk=chunk)
    expected = plain(hidden, weight, bias_V, target, temperature)
    mix = torch.randn(4, N, dtype=dtype, generator=torch.Generator().manual_seed(4))
    own_grads = torch.autograd.grad(
        sum((own[s.name] * m).sum() for s, m in zip(STATS, mix, strict=True)), leaves
    )
    expected_grads = torch.autograd.grad(
        sum((expected[s.name] * m).sum() for s, m in zip(STATS, mix, strict=True)), leaves
    )
    for stat in STATS:
        torch.testing.assert_close(own[stat.name], expected[stat.name], rtol=tolerance, atol=tolerance)
    for a, b in zip(own_grads, expected_grads, strict=True):
        scale = max(1.0, float(b.abs().max()))
        torch.testing.assert_close(a / scale, b / scale, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("only", [LOGP, ENTROPY])
def test_one_output_alone_gets_the_right_gradient(only: TokenStat) -> None:
    hidden, weight, _, target = inputs(torch.float64, False)
    own = torch.autograd.grad(token_stats(hidden, weight, target, [only], chunk=5)[only.name].sum(), weight)
    expected = torch.autograd.grad(plain(hidden, weight, None, target, 1.0)[only.name].sum(), weight)
    torch.testing.assert_close(own, expected, rtol=1e-10, atol=1e-10)


def test_gradcheck_in_double_precision() -> None:
    hidden, weight, bias_V, target = inputs(torch.float64, True)

    def outputs(*leaves: Tensor) -> tuple[Tensor, ...]:
        values = token_stats(leaves[0], leaves[1], target, STATS, bias_V=leaves[2], temperature=0.8, chunk=4)
        return tuple(values[s.name] for s in STATS)

    assert torch.autograd.gradcheck(outputs, (hidden, weight, bias_V))


def test_frozen_weights_get_no_gradient() -> None:
    hidden, weight, _, target = inputs(torch.float64, False)
    out = token_stats(hidden, weight.detach(), target, [LOGP, ENTROPY])
    (grad,) = torch.autograd.grad((out["logp"] + out["entropy"]).sum(), hidden)
    want = plain(hidden, weight.detach(), None, target, 1.0)
    torch.testing.assert_close(grad, torch.autograd.grad((want["logp"] + want["entropy"]).sum(), hidden)[0])


def test_extreme_logits_stay_finite() -> None:
    hidden = torch.tensor([[300.0], [-300.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0], [0.0]], requires_grad=True)
    out = token_stats(hidden, weight, torch.tensor([0, 0]), [LOGP, ENTROPY])
    assert out["logp"].tolist() == [0.0, -600.0]
    grads = torch.autograd.grad((out["logp"] + out["entropy"]).sum(), [hidden, weight])
    assert all(bool(g.isfinite().all()) for g in grads)


class LargestOutput(TorchDispatchMode):
    """Remembers the largest tensor any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_flatten(out)[0]:
            if isinstance(value, Tensor):
                self.numel = max(self.numel, value.numel())
        return out


def test_the_logits_of_all_positions_never_exist_at_once() -> None:
    n, d, v, chunk = 64, 4, 100, 8
    hidden = torch.randn(n, d, requires_grad=True)
    weight = torch.randn(v, d, requires_grad=True)
    stats = (LOGP, ENTROPY, LogProb(scale=0.5), TopProbability())
    with LargestOutput() as largest:
        out = token_stats(hidden, weight, torch.randint(v, (n,)), stats, chunk=chunk)
        sum(x.sum() for x in out.values()).backward()
    assert largest.numel == chunk * v


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("curve", [HeadCurve(), HeadCurve(0.7, 2.0)])
def test_kept_logits_and_those_computed_anew_give_the_same_gradients(
    monkeypatch: pytest.MonkeyPatch, curve: HeadCurve, bias: bool
) -> None:
    """A backward pass uses up what is kept, so a second one computes all logits anew."""
    monkeypatch.setattr(log_prob, "CACHED", 20)
    hidden, weight, bias_V, target = inputs(torch.float64, bias)
    leaves = [x for x in (hidden, weight, bias_V) if x is not None]
    out = token_stats(
        hidden, weight, target, (LOGP, ENTROPY), bias_V=bias_V, temperature=0.7, chunk=8, curve=curve
    )
    kept = out["logp"].grad_fn.kept  # type: ignore[union-attr]
    assert all(tile.cells <= 20 for tile in kept)
    assert 100 < sum(tile.cells for tile in kept) <= 8 * V - 20 < N * V
    loss = (out["logp"] * out["entropy"]).sum()
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    assert not kept
    again = torch.autograd.grad(loss, leaves)
    logits = hidden @ weight.T if bias_V is None else hidden @ weight.T + bias_V
    want = plain(curve(logits), torch.eye(V, dtype=torch.float64), None, target, 0.7)
    exact = torch.autograd.grad((want["logp"] * want["entropy"]).sum(), leaves)
    torch.testing.assert_close(first, exact, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(again, exact, rtol=1e-10, atol=1e-10)


def test_without_a_backward_pass_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_prob, "CACHED", 2048)
    hidden, weight = torch.randn(256, 4, requires_grad=True), torch.randn(512, 4, requires_grad=True)
    with LiveBytes() as held:
        target = torch.zeros(256, dtype=torch.long)
        with torch.no_grad():
            token_stats(hidden, weight, target, (LOGP, ENTROPY), chunk=256)
    assert held.peak < 256 * 512  # a quarter of the logits
    with LiveBytes() as held:
        out = token_stats(hidden, weight, target, (LOGP, ENTROPY), chunk=256)
    assert held.peak > 4 * 256 * 500 and out["logp"].requires_grad


def test_the_gradient_of_the_head_is_held_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_prob, "CACHED", 2048)
    hidden, weight = torch.randn(100, 64, requires_grad=True), torch.randn(3000, 64, requires_grad=True)
    with LiveBytes() as held:
        for value in (hidden, weight):
            held.hold(value)
        before = held.live
        out = token_stats(hidden, weight, torch.zeros(100, dtype=torch.long), (LOGP, ENTROPY), chunk=4)
        torch.autograd.grad((out["logp"] + out["entropy"]).sum(), weight)
    assert weight.nbytes < held.peak - before < 1.25 * weight.nbytes


def test_no_position_gives_a_gradient_of_zero() -> None:
    _, weight, bias, _ = inputs(torch.float64, True)
    hidden, target = torch.zeros(0, D, dtype=torch.float64, requires_grad=True), torch.zeros(0).long()
    out = token_stats(hidden, weight, target, (LOGP, ENTROPY), bias_V=bias)
    grads = torch.autograd.grad((out["logp"] + out["entropy"]).sum(), (hidden, weight, bias))  # type: ignore
    assert [g.shape for g in grads] == [(0, D), (V, D), (V,)] and not any(g.any() for g in grads)


def test_a_second_derivative_is_refused() -> None:
    hidden, weight, _, target = inputs(torch.float64, False)
    out = token_stats(hidden, weight, target, (LOGP,))
    (grad,) = torch.autograd.grad(out["logp"].pow(2).sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_default_chunk_keeps_the_budget() -> None:
    assert chunk_rows(151_936) * 151_936 * 4 <= 64 << 20
    assert chunk_rows(1 << 40) == 1


@pytest.mark.parametrize("curve", [HeadCurve(1.0, 2.0), HeadCurve(0.3), HeadCurve(3.0, 1.5)])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk", [4, 50])
def test_what_follows_the_head_is_in_values_and_gradients(
    curve: HeadCurve, temperature: float, chunk: int
) -> None:
    hidden, weight, bias, target = inputs(torch.float64, True)
    got = token_stats(
        hidden, weight, target, STATS, bias_V=bias, temperature=temperature, chunk=chunk, curve=curve
    )
    products = hidden @ weight.T + bias
    bent = curve.scale * products
    if curve.cap is not None:
        bent = curve.cap * torch.tanh(bent / curve.cap)
    want = plain(bent, torch.eye(V, dtype=torch.float64), None, target, temperature)
    for name, value in got.items():
        torch.testing.assert_close(value, want[name], rtol=1e-10, atol=1e-10)
        ours = torch.autograd.grad(value.pow(2).sum(), (hidden, weight, bias), retain_graph=True)
        theirs = torch.autograd.grad(want[name].pow(2).sum(), (hidden, weight, bias), retain_graph=True)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk", [4, 50])
def test_a_min_p_proxy_compares_raw_probabilities_and_then_takes_the_temperature(
    temperature: float, chunk: int
) -> None:
    hidden, weight, _, target = inputs(torch.float64, False)
    forms: list[dict[str, Any]] = [{}, {"relative": False}, {"soft": True}]
    stats = [MinPLogProb(min_p=0.2, **form) for form in forms]
    kl = MinPForwardKL(min_p=0.2)
    own = token_stats(hidden, weight, target, [*stats, kl], temperature=temperature, chunk=chunk)
    raw = hidden @ weight.T
    p = raw.softmax(1)
    for stat in stats:
        kept = p >= (0.2 * p.amax(1, keepdim=True) if stat.relative else 0.2)
        rest = raw.amin(1, keepdim=True) if stat.soft else torch.tensor(-1e4, dtype=raw.dtype)
        logq = (torch.where(kept, raw, rest) / temperature).log_softmax(1)
        torch.testing.assert_close(own[stat.name], logq.gather(1, target[:, None])[:, 0])
    kept = p >= 0.2 * p.amax(1, keepdim=True)
    mass = (raw / temperature).softmax(1).where(kept, 0.0).sum(1)
    torch.testing.assert_close(own[kl.name], -mass.log())  # of a renormalised policy no more is left
    (grad,) = torch.autograd.grad(own[kl.name].sum(), hidden)
    now, q = ((raw.where(on, -torch.inf) / temperature).softmax(1) for on in (p >= 0, kept))
    torch.testing.assert_close(grad, ((now - q) / temperature) @ weight)


@pytest.mark.parametrize("inclusive", [False, True])
def test_a_nucleus_entropy_and_its_gradient(inclusive: bool) -> None:
    """dH/dz = -q (ln q + H) on the nucleus, 0 elsewhere."""
    hidden, weight, _, target = inputs(torch.float64, False)
    stat = NucleusEntropy(top_p=0.8, top_k=5, inclusive=inclusive)
    own = token_stats(hidden, weight, target, [stat], chunk=4)[stat.name]
    (grad,) = torch.autograd.grad(own.sum(), hidden)
    p, order = (hidden @ weight.T).detach().softmax(1).sort(1, descending=True)
    reached = p.cumsum(1)
    inside = ((reached - p if inclusive else reached) < 0.8) & (torch.arange(V) < 5)
    q = torch.where(inside, p, 0.0)
    q = q / q.sum(1, keepdim=True).clamp(min=1e-30)
    log_q = q.clamp(min=1e-30).log()
    entropy = -(q * log_q).sum(1)
    torch.testing.assert_close(own, entropy, rtol=1e-9, atol=1e-10)
    slope = torch.zeros_like(p).scatter(1, order, -q * (log_q + entropy[:, None]))
    torch.testing.assert_close(grad, slope @ weight, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("sharpness", [0.3, 2.0, 6.0])
def test_a_nucleus_is_the_same_however_many_tokens_it_is_looked_for_in(
    inclusive: bool, sharpness: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From flat rows, whose nucleus ends at ``top_k``, to sharp ones, which end among the first few."""
    generator = torch.Generator().manual_seed(4)
    logits = (sharpness * torch.randn(9, 700, generator=generator, dtype=torch.float64)).requires_grad_()
    stat = NucleusEntropy(top_p=0.9, top_k=300, inclusive=inclusive)
    found = []
    for few in (4, 10**6):
        monkeypatch.setattr("harness.stages.token_stats.FEW", few)
        entropy = stat.compute(logits, torch.zeros(9, dtype=torch.long))
        found.append((entropy, torch.autograd.grad(entropy.sum(), logits)[0]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)
