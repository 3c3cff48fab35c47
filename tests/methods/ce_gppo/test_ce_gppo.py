"""CE-GPPO on numbers worked out by hand, and what it does to entropy."""

from __future__ import annotations

import pytest
import torch

from harness.registry import methods as registry
from methods.ce_gppo import PositiveNLL
from tests.methods.support.losses import batch_of, logs, loss_of
from tests.methods.support.pipeline import make_step, plan_of, update
from tests.methods.support.tabular import Draws, entropy, stages


def test_the_sheet_s_four_tokens() -> None:
    batch, logp = batch_of([logs(r) for r in (1.5, 0.5, 12.0, 0.5)], [1.0, -1.0, -1.0, 1.0])
    values = {"dual_clip": 10.0, "beta1": 0.75, "beta2": 1.0}
    loss, grad, _ = loss_of("ce-gppo@paper", values, batch, logp)
    assert loss == pytest.approx(2.225)
    assert grad[:, 0].tolist() == pytest.approx([-0.3, 0.15, 0.0, -0.125])


def test_without_coefficients_the_gradient_is_that_of_the_clip() -> None:
    step = make_step(2, minibatches=1)
    none, clip = {"beta1": 0.0, "beta2": 0.0}, {"aggregation": "token-mean"}
    grads = []
    for name, values in (("ce-gppo@paper", none), ("grpo", clip)):
        made = registry.load(name)(**values).stages()
        (minibatch,) = plan_of(made, step)
        grads.append(update(made, step, minibatch)[1])
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-12)
    assert bool(grads[0].any())


def test_kept_gradients_of_rare_tokens_move_entropy_as_derived() -> None:
    """Rare tokens that PPO would drop: those with A > 0 raise entropy with beta2, with A < 0 lower it."""
    draws = Draws.make(spread=1.5, moved=0.6)
    logp, ratio = draws.logp(draws.logits), (draws.logp(draws.logits) - draws.logp(draws.old)).exp()
    advantage = draws.advantage[:, 0]
    rare = -logp > entropy(draws.logits) + 1.0
    for sign, beta, outside in (
        (1, "beta2", (advantage > 0) & (ratio > 1.2)),
        (-1, "beta1", (advantage < 0) & (ratio < 0.8)),
    ):
        where = rare & outside
        values = {"beta1": 0.0, "beta2": 0.0}
        dropped = draws.change(stages("ce-gppo@paper", **values), 1e-3)[where]
        kept = draws.change(stages("ce-gppo@paper", **values | {beta: 1.0}), 1e-3)[where]
        assert int(where.sum()) > 20 and not bool(dropped.any())
        assert float(((kept * sign) > 0).double().mean()) > 0.95


def test_the_positive_term_counts_the_tokens_of_right_responses_alone() -> None:
    batch, _ = batch_of([[0.0, 0.0, 0.0], [0.0, 0.0], [0.0]], [1.0, -1.0, 1.0])
    batch = batch.with_(reward_B=torch.tensor([1.0, 0.0, 1.0]))
    tokens = PositiveNLL(0.1).tokens(batch)
    assert tokens.tolist() == [[True, True, True], [False] * 3, [True, False, False]]


def test_a_minibatch_without_right_responses_has_no_positive_term() -> None:
    step = make_step(0, minibatches=1)
    made = registry.load("ce-gppo@released")().stages()
    (minibatch,) = plan_of(made, step)
    wrong = minibatch.batch.correct_B == 0
    lone = type(minibatch)(minibatch.batch.rows(wrong))
    with_term, without = (
        update(registry.load("ce-gppo@released")(positive_nll=k).stages(), step, lone) for k in (0.1, 0.0)
    )
    assert with_term[0] == without[0] and torch.equal(with_term[1], without[1])
