"""EPO on numbers worked out by hand; what the released penalty trains; which way a step moves the entropy."""

from __future__ import annotations

import pytest
import torch

from harness.registry import methods as registry
from harness.stages.base import Stages
from methods.epo import (
    EntropyHistory,
    constant_penalty,
    hinge_penalty,
    phase_weight,
    response_mean,
    smoothing_weight,
)
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.pipeline import make_step, plan_of, update
from tests.methods.support.programs import CTX, signals
from tests.methods.support.tabular import change, stages

H = torch.tensor([[0.5, 2.5]]).double()


def test_two_tokens() -> None:
    """The sheet's numbers: history 1, kappa 0 and 2, alpha 0.05, epoch 30 of 150, lambda 0.001."""
    flat, hinge = (penalty(H, 1.0, 0.0, 2.0, 0.05) for penalty in (constant_penalty, hinge_penalty))
    assert flat.tolist() == [[0.0, 0.05]] and hinge[0].tolist() == pytest.approx([0.0, 0.025])
    weight = phase_weight(30)
    assert weight == pytest.approx(0.889866, abs=1e-6)
    assert -0.001 * float(H.mean() - weight * flat.mean()) == pytest.approx(-0.00147775, abs=1e-8)
    assert -0.001 * float(H.mean() - hinge.mean()) == pytest.approx(-0.0014875, abs=1e-8)


def test_both_sides_are_strict_and_a_response_is_tested_by_its_mean() -> None:
    edges = torch.tensor([[0.5, 0.6, 1.0]])
    assert constant_penalty(edges, 1.0, 0.5, 1.0, 0.3)[0].tolist() == pytest.approx([0.3, 0.0, 0.3])
    assert hinge_penalty(torch.tensor([[0.1]]), 1.0, 0.5, 1.0, 0.5).item() == pytest.approx(0.2)
    mean = response_mean(torch.tensor([[1.0, 3.0, 99.0]]), torch.tensor([[1, 1, 0]]))
    assert mean[0].tolist() == [2.0] * 3


def test_weights_over_the_run() -> None:
    assert [phase_weight(e) for e in (0, 75, 150)] == pytest.approx([1.0, 0.827067, 0.039830], abs=1e-6)
    betas = [smoothing_weight(k, 10, 1.0) for k in (0, 5, 10)]
    assert betas == pytest.approx([2.0, 1.367879, 1.135335], abs=1e-6)
    assert smoothing_weight(0, 1, 1.0) == 2.0


def test_the_paper_s_history_is_of_earlier_steps_and_the_code_s_of_this_one_too() -> None:
    step = make_step()
    batch = step.batch.with_(old={"entropy": torch.full(step.batch.mask_BT.shape, 0.6)})
    seen = []
    for with_current in (True, False):
        history = EntropyHistory(with_current)
        for entropy in (0.6, 0.2):
            history.before_update(
                batch.with_(old={"entropy": torch.full_like(batch.rollout_logp_BT, entropy)}), CTX
            )
            seen.append(history.mean)
            history.after_update(signals(entropy=entropy), CTX)
        assert history.mean == pytest.approx(0.4)
    assert seen == [pytest.approx(0.6), pytest.approx(0.4), None, pytest.approx(0.6)]


def test_the_released_update_is_an_entropy_bonus_s() -> None:
    """Its penalty shows in the loss and in no gradient, wherever the history is."""
    step = make_step(1, minibatches=1)
    made = registry.load("epo@released")(entropy_coef=0.1, alpha=2.0).stages()
    base = registry.load("entropy-bonus")(entropy_coef=0.1).stages()
    made.components["epo"].observe(0.3)  # type: ignore[attr-defined]
    (mine,), (theirs,) = plan_of(made, step), plan_of(base, step)
    (loss, grad), (plain_loss, plain) = update(made, step, mine), update(base, step, theirs)
    assert loss > plain_loss + 0.01 and torch.equal(grad, plain)


def push(name: str, history: float, **values: float) -> float:
    """The change of entropy by a step in one state of 1.08 nats whose actions are all worth the same."""
    made: Stages = stages(name, entropy_coef=0.1, **values)
    made.components["epo"].observe(history)  # type: ignore[attr-defined]
    logits = torch.tensor([[1.0, 0.5, -0.5, 0.0]]).double()
    return float(change(made, logits, torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4), 0.1))


def test_the_paper_pulls_entropy_back_into_the_corridor_and_the_code_only_up() -> None:
    strong = {"kappa_l": 0.8, "kappa_r": 1.2, "alpha": 1.0}
    assert push("epo@paper", 0.5, **strong) < 0 < push("epo@paper", 1.1, **strong)
    inside, below = push("epo@paper", 1.1, **strong), push("epo@paper", 2.0, **strong)
    assert below == pytest.approx(3 * inside, rel=0.01)  # 1 + beta alpha, beta = 2 at the start
    assert 0 < push("epo@paper", 0.5, alpha=0.1) < inside  # beta alpha < 1: weaker, still upwards
    assert push("epo@released", 0.5, **strong) == push("epo@released", 1.1, **strong) > 0


def test_a_run_keeps_its_history() -> None:
    trainer = tiny_trainer("train.epochs=1", method="epo@paper")
    rows = [trainer.step(), trainer.step()]
    assert [row["epo/history"] for row in rows] == [0.0, pytest.approx(rows[0]["entropy"])]
    assert rows[0]["epo/outside"] == 0 and rows[0]["epo/coefficient"] == pytest.approx(0.002)
