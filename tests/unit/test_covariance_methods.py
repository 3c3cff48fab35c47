"""Clip-Cov, KL-Cov and fork tokens on numbers worked out by hand, and the machinery they stand on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.problems.problem import Problem
from harness.stages.aggregate import AGGREGATIONS, aggregate, token_coefficients
from harness.stages.base import Loss, Out, Stats
from harness.stages.batch import Batch
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio, TokenSelection
from harness.train.update import token_draws
from methods.clip_cov import CovarianceClip, drawn
from methods.fork_tokens import above_quantile, top_count
from methods.kl_cov import CovarianceKL, distance
from tests.helpers.tiny import tiny_trainer


def rows(advantage_BT: Tensor, old_BT: Tensor, **fields: Tensor) -> Batch:
    size, width = advantage_BT.shape
    number = torch.zeros(size)
    return Batch(
        prompt_BP=torch.zeros(size, 1, dtype=torch.long),
        prompt_mask_BP=torch.ones(size, 1, dtype=torch.bool),
        response_BT=torch.zeros(size, width, dtype=torch.long),
        mask_BT=fields.pop("mask_BT", torch.ones(size, width, dtype=torch.bool)),
        group_B=number.long(), sample_B=number.long(), temperature_B=number, truncated_B=number.bool(),
        rollout_logp_BT=old_BT, problems=(Problem("p", "?"),) * size, texts=("",) * size,
        old={"logp": old_BT}, advantage_BT=advantage_BT, **fields,
    )  # fmt: skip


def value_and_gradient(stage: Loss, batch: Batch, logp_BT: Tensor) -> tuple[float, list[float]]:
    leaf = logp_BT.clone().requires_grad_()
    prepared = stage.prepare(batch, {"logp": leaf.detach()}).value
    loss = aggregate("token-mean", stage(batch, {"logp": leaf}, prepared), batch.mask_BT)
    (grad,) = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), grad[0].tolist()


ADVANTAGE = torch.tensor([[1.0, 1.0, -1.0, -1.0]], dtype=torch.float64)


@pytest.mark.parametrize(("first", "expected"), [(0, [0, -0.25, 0.25, 0.25]), (3, [-0.25, -0.25, 0.25, 0])])
def test_clip_cov_by_hand(first: int, expected: list[float]) -> None:
    """Covariances 0.95, -0.95, -0.95, 0.95: tokens 0 and 3 are candidates and one of them is drawn."""
    logp = torch.tensor([[-0.1, -2.0, -0.1, -2.0]], dtype=torch.float64)
    draw = torch.full((1, 4), 0.5, dtype=torch.float64)
    draw[0, first] = 0.1
    draw[0, 1] = 0.0  # not a candidate, so its small number does not matter
    weight = CovarianceClip(0.25, 0.5, 5.0, 0.2, 0.2)
    stage = PolicyLoss(TokenRatio(None), FixedBounds(), weight, aggregation="token-mean")
    batch = rows(ADVANTAGE, logp, draw_BT=draw)
    loss, grad = value_and_gradient(stage, batch, logp)
    assert loss == pytest.approx(0.25 if first == 0 else -0.25) and grad == pytest.approx(expected)
    metrics = weight(batch, {"logp": logp}).metrics
    assert metrics["clip_cov/dropped"] == 0.25 and metrics["clip_cov/candidates"] == 0.5
    assert metrics["clip_cov/max"] == pytest.approx(0.95)


def test_clip_cov_draws_what_there_is_and_what_is_not_clipped() -> None:
    candidates = torch.tensor([[True, False, True]])
    draw = torch.tensor([[0.9, 0.1, 0.5]])
    assert drawn(candidates, draw, 1).tolist() == [[False, False, True]]
    assert drawn(candidates, draw, 7).tolist() == [[True, False, True]]
    assert not drawn(torch.zeros_like(candidates), draw, 2).any()
    # ratios of 1.5 with a positive advantage are clipped at 1.2: those tokens are not eligible
    logp = torch.tensor([[-0.1, -2.0, -0.1, -2.0]], dtype=torch.float64)
    old = logp - torch.tensor([[1.5, 1.0, 1.0, 1.0]], dtype=torch.float64).log()
    batch = rows(ADVANTAGE, old, draw_BT=torch.zeros(1, 4))
    weight = CovarianceClip(1.0, 0.5, 5.0, 0.2, 0.2)(batch, {"logp": logp}).value
    assert weight.tolist() == [[1, 1, 1, 0]]


def test_clip_cov_draws_uniformly() -> None:
    """Each of five candidates is among the two drawn in 2/5 of the cases."""
    candidates = torch.ones(1, 5, dtype=torch.bool)
    batch = rows(torch.zeros(1, 5), torch.zeros(1, 5))
    counts = sum(drawn(candidates, token_draws(batch, (1, step)), 2).double() for step in range(2000))
    spread = 4 * math.sqrt(0.4 * 0.6 / 2000)
    assert bool(((counts / 2000 - 0.4).abs() < spread).all()) and float(counts.sum()) == 4000


def test_kl_cov_by_hand() -> None:
    logp = torch.tensor([[-0.1, -2.0, -0.1, -1.8]], dtype=torch.float64)
    old = torch.tensor([[-0.3, -2.0, -0.1, -1.8]], dtype=torch.float64)
    batch = rows(ADVANTAGE, old)
    penalty = CovarianceKL(0.25, 1.0)
    policy = PolicyLoss(TokenRatio(None), FixedBounds(1.0, math.inf), aggregation="token-mean")
    loss, grad = value_and_gradient(policy, batch, logp)
    extra, extra_grad = value_and_gradient(penalty, batch, logp)
    assert loss + extra == pytest.approx(-0.00535069, abs=1e-8)
    assert grad[0] + extra_grad[0] == pytest.approx(-0.0553507, abs=1e-7)
    assert extra_grad[1:] == [0, 0, 0]
    metrics = penalty.prepare(batch, {"logp": logp}).metrics
    assert metrics["kl_cov/selected"] == 0.25 and metrics["kl_cov/threshold"] == pytest.approx(0.9)
    assert metrics["kl_cov/distance"] == pytest.approx(0.2)


def test_kl_cov_does_not_follow_rounding_errors() -> None:
    old = torch.zeros(3)
    leaf = torch.tensor([4e-6, -4e-6, 0.1], requires_grad=True)
    distance(leaf, old).sum().backward()
    assert leaf.grad is not None and leaf.grad.tolist() == [0, 0, 1]
    assert distance(leaf.detach(), old).tolist() == pytest.approx([0, 0, 0.1])


@pytest.mark.parametrize(
    ("n", "rho", "k"), [(11, 0.2, 3), (10, 0.2, 2), (3, 0.2, 1), (4, 0.01, 1), (7, 1, 7)]
)
def test_fork_tokens_keep_the_exact_count(n: int, rho: float, k: int) -> None:
    entropy = torch.arange(n + 2.0)[None]  # the two largest are padding
    mask = torch.arange(n + 2)[None] < n
    kept = top_count(entropy, mask, rho)
    assert kept[0].nonzero().flatten().tolist() == list(range(n - k, n))


def test_fork_tokens_quantile_interpolates() -> None:
    entropy = torch.tensor([[0.4, 0.1, 0.3, 0.2, 9.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True, True, False]])
    # position 3 x 0.75 = 2.25 between 0.3 and 0.4; at rho 2/3 it is 1, exactly 0.2
    assert above_quantile(entropy, mask, 0.25).tolist() == [[True, False, False, False, False]]
    assert above_quantile(entropy, mask, 2 / 3).sum() == 3
    assert above_quantile(entropy, mask, 1.0).tolist() == mask.tolist()


class Half(TokenSelection):
    """Keeps the first two tokens of every row."""

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        return Out(torch.arange(batch.mask_BT.shape[1]).expand(batch.mask_BT.shape) < 2)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_selection_divides_by_what_it_keeps(aggregation: str) -> None:
    lengths = torch.tensor([4, 1, 3])
    mask = torch.arange(4) < lengths[:, None]
    batch = rows(torch.ones(3, 4), torch.zeros(3, 4), mask_BT=mask)
    stage = PolicyLoss(selection=Half(), aggregation=aggregation)
    share = stage.prepare(batch, {"logp": torch.zeros(3, 4)}).value["counted"]
    kept = mask & (torch.arange(4) < 2)
    torch.testing.assert_close(
        token_coefficients(aggregation, mask) * share, token_coefficients(aggregation, kept)
    )


# --- random numbers of an optimiser step ------------------------------------------------------------------


def test_draws_depend_on_step_and_rollout_alone() -> None:
    batch = rows(torch.zeros(5, 6), torch.zeros(5, 6), tags={"row": torch.tensor([7, 3, 0, 9, 4])})
    draws = token_draws(batch, (1, 2, 3))
    assert draws.shape == (5, 6) and bool(((draws >= 0) & (draws < 1)).all())
    order = torch.tensor([4, 2, 0, 1, 3])
    assert torch.equal(token_draws(batch.rows(order), (1, 2, 3)), draws[order])
    narrow = batch.with_(mask_BT=batch.mask_BT[:, :4])
    assert torch.equal(token_draws(narrow, (1, 2, 3)), draws[:, :4])
    for other in ((1, 2, 4), (1, 3, 3), (2, 2, 3)):
        assert not torch.equal(token_draws(batch, other), draws)


def test_every_update_of_a_run_draws_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.train import update as update_module

    seen: list[tuple[object, ...]] = []
    original = update_module.token_draws

    def keep(batch: Batch, key: tuple[object, ...]) -> Tensor:
        seen.append(key)
        return original(batch, key)

    monkeypatch.setattr(update_module, "token_draws", keep)
    trainer = tiny_trainer(method="clip-cov")
    trainer.step()
    trainer.step()
    assert seen == [(1, step, number) for step in (1, 2) for number in range(4)]
    monkeypatch.setattr(update_module, "token_draws", None)  # nobody else asks for any
    tiny_trainer(method="grpo").step()
