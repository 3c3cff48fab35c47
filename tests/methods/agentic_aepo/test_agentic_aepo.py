"""Agentic AEPO on numbers worked out by hand, and what its two halves do to entropy."""

from __future__ import annotations

import math

import pytest
import torch

from harness.registry import methods as registry
from methods.agentic_aepo import branch_probability, branches, fresh_rollouts, standardised
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.losses import batch_of, logs, loss_of
from tests.methods.support.pipeline import make_step, plan_of, update
from tests.methods.support.tabular import Draws, entropy, stages

PLAIN = {"entropy_weight": 0.0}


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "grad"),
    [(1.0, 1.5, -1.28, -1.28), (-1.0, 0.5, 0.8, 0.0), (-1.0, 1.5, 1.5, 1.5), (-1.0, 4.0, 3.0, 0.0)],
)
def test_the_sheet_s_tokens(advantage: float, ratio: float, loss: float, grad: float) -> None:
    batch, logp = batch_of([logs(ratio)], [advantage])
    got, gradient, _ = loss_of("agentic-aepo@released", {**PLAIN, "eps_high": 0.28}, batch, logp)
    assert got == pytest.approx(loss) and gradient.item() == pytest.approx(grad)


def test_scores_are_over_valid_tokens_and_a_std_of_zero_is_one() -> None:
    mask = torch.tensor([[True, True, False], [True, False, False]])
    value = torch.tensor([[1.0, 2.0, 99.0], [3.0, 99.0, 99.0]]).double()
    assert standardised(value, mask).tolist() == [[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    equal = standardised(torch.full((2, 3), 0.3).double(), mask)
    assert not equal.any()
    long = torch.full((8, 20), 0.3).double()
    assert not standardised(long, long > 0).any(), "the mean of equal values is rounded"
    assert not standardised(value, torch.tensor([[True, False, False], [False] * 3])).any()


def test_the_gradient_is_ce_gppo_s_with_the_upper_half_alone() -> None:
    step = make_step(2, minibatches=1)
    names = {
        "agentic-aepo@released": {**PLAIN, "dual_clip": None, "eps_low": 0.02, "eps_high": 0.02},
        "ce-gppo@paper": {"beta1": 0.0, "beta2": 1.0, "eps_low": 0.02, "eps_high": 0.02},
    }
    grads = []
    for name, values in names.items():
        made = registry.load(name)(**values).stages()
        (minibatch,) = plan_of(made, step)
        grads.append(update(made, step, minibatch)[1])
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-12)
    assert bool(grads[0].any())


def test_kept_gradients_of_rare_good_tokens_raise_entropy() -> None:
    """PPO drops them; the derived sign of their step is up, since they are rarer than the distribution."""
    draws = Draws.make(spread=1.5, moved=0.6)
    logp, ratio = draws.logp(draws.logits), (draws.logp(draws.logits) - draws.logp(draws.old)).exp()
    where = (-logp > entropy(draws.logits) + 1.0) & (draws.advantage[:, 0] > 0) & (ratio > 1.2)
    clip = draws.change(stages("grpo", aggregation="token-mean"), 1e-3)[where]
    kept = draws.change(stages("agentic-aepo@released", **PLAIN), 1e-3)[where]
    assert int(where.sum()) > 20 and not bool(clip.any())
    assert float((kept > 0).double().mean()) > 0.95


def test_the_split_and_the_branches_by_hand() -> None:
    assert fresh_rollouts(16, 0.4, 0.4) == 9  # sigmoid(0) = 1/2
    assert fresh_rollouts(16, 1e3, 0.0) == 16 and fresh_rollouts(16, 0.0, 1e3) == 1
    assert fresh_rollouts(8, math.log(3.0), 0.0, beta=1.0) == 7  # sigmoid = 3/4
    u, rise, run = (
        torch.tensor(v).double() for v in ([0.4, 0.4, 0.9, 0.9], [0.5, -0.5, 2.0, 2.0], [0, 0, 0, 30])
    )
    score = branch_probability(u, rise, run)
    assert score.tolist() == pytest.approx([0.5, 0.3, 1.0, 0.0])
    assert branches(score).tolist() == [True, False, True, False]


@pytest.mark.parametrize("name", ["agentic-aepo@released", "agentic-aepo@paper"])
def test_advantages_follow_entropy_in_a_real_step(name: str) -> None:
    """A weight that turns the sign of some tokens is logged."""
    rows = [tiny_trainer(f"method.entropy_weight={a}", method=name).step() for a in (0.2, 3.0)]
    assert 0 <= rows[0]["agentic_aepo/turned"] < rows[1]["agentic_aepo/turned"] < 1
