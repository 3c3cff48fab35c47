"""The hook between gradient and step: what is measured of a head, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch.func import jvp

from harness.model.head import HeadCurve
from harness.train.proposal import HeadEnds, Proposal, check_precise, largest_spread, precise
from harness.util.errors import UserError
from tests.helpers.tiny import tiny_policy, tiny_trainer


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("curve", [HeadCurve(), HeadCurve(0.7), HeadCurve(1.3, 5.0)])
@pytest.mark.parametrize("chunk_mib", [0, 64])
def test_spread_of_a_heads_logits(curve: HeadCurve, bias: bool, chunk_mib: int) -> None:
    at = [normal(9, 4), normal(30, 4, seed=1), normal(30, seed=2)][: 3 if bias else 2]
    along = [normal(*v.shape, seed=7 + i) for i, v in enumerate(at)]

    def logits(hidden: torch.Tensor, weight: torch.Tensor, b: torch.Tensor | float = 0.0) -> torch.Tensor:
        return curve(hidden @ weight.T + b)

    exact = largest_spread(jvp(logits, tuple(at), tuple(along))[1])
    h = 1e-5
    (h0, h1), (w0, w1), *rest = [(v - h * d, v + h * d) for v, d in zip(at, along, strict=True)]
    b0, b1 = rest[0] if rest else (None, None)
    head = HeadEnds.between((w0, b0), (w1, b1), 2 * h, curve, chunk_mib)
    assert head.spread(h0, h1) == pytest.approx(exact, rel=1e-7)


def test_a_step_is_taken_in_part_as_a_whole_or_not_at_all() -> None:
    weight, calls = torch.nn.Parameter(torch.tensor([1.0, 2.0])), 0

    def make() -> Proposal[torch.Tensor]:
        weight.grad = torch.tensor([0.3, -0.4])
        sgd = torch.optim.SGD([weight], lr=1.0)

        def end() -> torch.Tensor:
            nonlocal calls
            calls += 1
            return torch.stack([weight[0] ** 2, weight[1]]).detach()[None].clone()

        return Proposal([weight], sgd.step, end, lambda a, b, far: largest_spread((b - a) / far))

    proposed = make()
    assert proposed.length == pytest.approx(0.5)
    # along v = (-0.6, 0.8) at (1, 2): derivatives 2 x -0.6 and 0.8
    assert proposed.spread() == pytest.approx(2.0, rel=1e-3) and proposed.spread() and calls == 2
    proposed.take(0.5)
    assert weight.tolist() == pytest.approx([0.85, 2.2])
    make().take(0.0)
    assert weight.tolist() == pytest.approx([0.85, 2.2])
    make().take(1.0)
    assert weight.tolist() == pytest.approx([0.55, 2.6])
    nothing = Proposal([weight], lambda: None, lambda: weight.detach(), lambda *_: 1 / 0)
    assert nothing.length == 0.0 and nothing.spread() == 0.0


def test_what_is_too_coarse_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="torch.bfloat16 is too coarse for; use model.dtype=float32"):
        check_precise(tiny_policy(torch.bfloat16).network, 1)
    network = tiny_policy().network
    network.compute_in(torch.bfloat16)
    check_precise(network, 1)
    with pytest.raises(UserError, match="2 processes .*bfloat16; use model.compute_dtype=same, or one"):
        check_precise(network, 2)


def test_passes_see_what_is_trained_and_nothing_else_while_it_is_measured() -> None:
    network = tiny_trainer("model.compute_dtype=bfloat16").policy.network
    cast = [p.data.clone() for p in network.parameters()]
    with precise(network):
        assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert all(
        torch.equal(p, c) and p.dtype == c.dtype for p, c in zip(network.parameters(), cast, strict=True)
    )
