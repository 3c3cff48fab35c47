"""PSR, NSR and W-REINFORCE on numbers worked out by hand, their sign in entropy, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.problems.problem import Problem, Verdict
from harness.registry import methods as registry
from harness.util.errors import UserError
from tests.helpers.tiny import LetterBenchmark, small_run, tiny_trainer
from tests.methods.support.losses import batch_of, value_and_gradient
from tests.methods.support.pipeline import make_step
from tests.methods.support.tabular import Draws, change, stages


class AlwaysRight(LetterBenchmark):
    """Every answer is right."""

    def verify(self, problem: Problem, text: str) -> Verdict:
        return Verdict("right")


def selected(entry: str, right: list[int]) -> Any:
    """The batch that trains: one token a response, ratios 1."""
    made, ctx = registry.load(f"nsr@{entry}")().stages(), make_step().ctx
    batch, logp = batch_of([[0.0]] * len(right), [0.0] * len(right))
    batch = batch.with_(
        verdicts=tuple(Verdict("right" if r else "wrong") for r in right),
        reward_B=torch.tensor(right, dtype=torch.float64),
    )
    batch = batch.with_(advantage_BT=made.advantage(batch, ctx).value[:, None])
    return made.loss, made.selection(batch, ctx).value, logp


@pytest.mark.parametrize(
    ("entry", "loss", "gradients"),
    [
        ("psr", -1.0, [-0.5, -0.5]),
        ("nsr", 1.0, [0.5, 0.5]),
        ("w", 0.45, [-0.025, 0.25, 0.25, -0.025]),
    ],
)
def test_the_sheet_s_numbers(entry: str, loss: float, gradients: list[float]) -> None:
    stage, batch, logp = selected(entry, [1, 0, 0, 1])
    assert len(batch) == len(gradients)
    leaf = logp[: len(batch)].clone().requires_grad_()
    prepared = stage.prepare(batch, {"logp": leaf.detach()}).value
    total = stage(batch, {"logp": leaf}, prepared).mean()
    (grad,) = torch.autograd.grad(total, leaf)
    assert float(total.detach()) == pytest.approx(loss)
    assert grad.flatten().tolist() == pytest.approx(gradients)


@pytest.mark.parametrize(("entry", "right", "sign"), [("psr", 1.0, -1), ("nsr", -1.0, 1)])
@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_the_usual_answer_lowers_entropy_where_it_is_right_and_raises_it_where_it_is_wrong(
    entry: str, right: float, sign: int, spread: float
) -> None:
    logits = Draws.make(spread).logits
    usual = logits.argmax(1, keepdim=True)
    moved = change(stages(f"nsr@{entry}"), logits, usual, torch.full(usual.shape, right).double(), 1e-3)
    assert bool((sign * moved > 0).all())


def test_a_wrong_answer_is_pushed_without_bound_until_it_is_rare() -> None:
    """The gradient of nsr is the ratio above 1 - e, and 0 below."""
    stage = registry.load("nsr@nsr")().stages().loss
    batch, logp = batch_of([[3.0, 0.0, -0.2, -0.3]], [-1.0])
    _, grad = value_and_gradient(stage, batch, logp)
    assert grad == pytest.approx([2.718281828**3 / 4, 0.25, 2.718281828**-0.2 / 4, 0])


def test_no_group_is_needed_and_a_step_without_a_row_is_skipped() -> None:
    for entry in ("psr", "nsr", "w"):
        small_run("rollout.group_size=1", method=f"nsr@{entry}")
    _, batch, _ = selected("nsr", [1, 1])
    assert len(batch) == 0
    assert tiny_trainer(method="nsr@nsr", benchmark=AlwaysRight()).step()["skipped_update"] == 1


def test_rewards_other_than_verdicts_are_refused_in_the_first_step() -> None:
    step = make_step()
    made = registry.load("nsr@nsr")().stages()
    with pytest.raises(UserError, match="needs rewards of 0 and 1, and this step has -1"):
        made.advantage(step.batch.with_(reward_B=2 * step.batch.correct_B - 1), step.ctx)
