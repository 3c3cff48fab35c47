"""Credit without a critic on numbers worked out by hand: baselines, returns, whitening, the KL's place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.problems.problem import Verdict
from harness.registry import methods as registry
from harness.stages.aggregate import aggregate
from harness.stages.batch import Batch
from harness.stages.credit import at_last_token, leave_one_out, returns_to_go, whitened
from harness.stages.loss import PolicyLoss
from harness.stages.ratios import ResponseRatio
from tests.helpers.tiny import small_run, tiny_trainer
from tests.methods.support.losses import batch_of
from tests.methods.support.pipeline import make_step, plan_of, update

NAME = "reinforce-family"


def judged(lengths: list[int], right: list[int], groups: list[int]) -> Batch:
    """Responses of given lengths; old log-probs are -1, the reference's -1.5."""
    batch, _ = batch_of([[0.0] * n for n in lengths], [0.0] * len(lengths))
    mask = batch.mask_BT
    return batch.with_(
        verdicts=tuple(Verdict("right" if r else "wrong") for r in right), group_B=torch.tensor(groups),
        old={"logp": torch.where(mask, -1.0, 0.0).double()},
        ref_logp_BT=torch.where(mask, -1.5, 7.0).double(),
    )  # fmt: skip


def credit(entry: str, values: dict[str, Any], batch: Batch) -> Tensor:
    """What the reward and advantage stages of an entry give, on response tokens."""
    ctx, stages = make_step().ctx, registry.load(f"{NAME}@{entry}")(**values).stages()
    reward = stages.reward(batch, ctx).value
    if reward.ndim == 2:
        batch = batch.with_(reward_BT=reward)
        reward = (reward * batch.mask_BT).sum(1)
    return stages.advantage(batch.with_(reward_B=reward), ctx).value[batch.mask_BT]


def test_leave_one_out_and_the_group_s_mean_of_the_sheet() -> None:
    right, group = torch.tensor([1.0, 0, 0, 1]), torch.zeros(4, dtype=torch.long)
    assert leave_one_out(right, group).tolist() == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3])
    assert leave_one_out(torch.tensor([1.0, 5.0, 3.0]), torch.tensor([7, 3, 3])).tolist() == [1, 2, -2]


def test_returns_start_anew_outside_the_mask() -> None:
    mask = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 0]])
    reward = torch.tensor([[1.0, 2.0, 9.0, 4.0], [0.0, 0.0, 1.0, 0.0]])
    assert returns_to_go(reward, mask, 0.5).tolist() == [[2, 2, 0, 4], [0.25, 0.5, 1, 0]]
    assert at_last_token(torch.tensor([3.0, 2.0]), mask).tolist() == [[0, 0, 0, 3], [0, 0, 2, 0]]
    assert not bool(at_last_token(torch.tensor([3.0]), torch.zeros(1, 4)).any())


def test_whitening_weighs_by_tokens() -> None:
    """A right response of one token and a wrong one of three: mean 1/4, variance 3/16 or 1/4."""
    batch = judged([1, 3], [1, 0], [0, 1])
    assert credit("plain", {}, batch).tolist() == pytest.approx([0.75] + [-0.25] * 3)
    assert credit("plain", {"whiten": "none"}, batch).tolist() == [1, 0, 0, 0]
    biased = credit("plain", {"whiten": "biased"}, batch)
    assert biased.tolist() == pytest.approx([3**0.5] + [-(3**-0.5)] * 3)
    assert credit("plusplus", {}, batch).tolist() == pytest.approx([1.5] + [-0.5] * 3)
    assert credit("plusplus", {"gamma": 0.5}, judged([2], [1], [0])).tolist() == pytest.approx(
        [-(0.5**0.5), 0.5**0.5]
    )


@pytest.mark.parametrize("how", ["mean", "unbiased", "biased"])
def test_whitening_of_equal_values_is_zero(how: str) -> None:
    mask = torch.tensor([[1, 1, 0]])
    assert whitened(torch.full((1, 3), 0.3), mask, how)[mask.bool()].tolist() == pytest.approx([0, 0])
    assert not bool(whitened(torch.zeros(1, 3), torch.zeros(1, 3), how).any())


def test_the_kl_before_the_baseline_and_after_it() -> None:
    """kl is 0.5 a token: it separates responses of different lengths, before or after the baseline."""
    batch = judged([1, 3], [1, 0], [0, 0])
    before = credit("rloo", {"kl_coef": 0.2}, batch)
    assert before.tolist() == pytest.approx([0.9 + 0.3] + [-0.3 - 0.9] * 3)
    after = credit("rloo", {"kl_coef": 0.2, "kl_after": True}, batch)
    assert after.tolist() == pytest.approx([1 - 0.1, -1 - 0.3, -1 - 0.2, -1 - 0.1])
    assert credit("rloo-trl", {"kl_coef": 0.2}, batch).tolist() == pytest.approx(before.tolist())
    squared = credit("rloo", {"kl_coef": 0.2, "kl_estimator": "k2"}, batch)
    assert squared.tolist() == pytest.approx([0.975 + 0.075] + [-0.075 - 0.975] * 3)


def test_a_ratio_of_whole_responses() -> None:
    """Log ratios (0.1, -0.04) and (0.5,): the second response is clipped as a whole."""
    batch, logp = batch_of([[0.1, -0.04], [0.5]], [1.0, 2.0])
    leaf = logp.clone().requires_grad_()
    stage = PolicyLoss(ResponseRatio())
    prepared = stage.prepare(batch, {"logp": leaf.detach()}).value
    per_token = stage(batch, {"logp": leaf}, prepared)
    loss = aggregate("seq-mean-token-mean", per_token, batch.mask_BT.double(), length_eps=0.0)
    (grad,) = torch.autograd.grad(loss, leaf)
    s = 2.718281828459045**0.06
    assert float(loss.detach()) == pytest.approx((-s - 2.4) / 2)
    assert grad.flatten().tolist() == pytest.approx([-s / 2, -s / 2, 0, 0])


def test_what_the_card_says_about_grpo() -> None:
    """True, though they are no reductions: without whitening, and up to G / (G - 1)."""
    step = make_step(3, minibatches=1)
    base = registry.load("grpo")(scale="none", aggregation="token-mean", dual_clip=3.0).stages()
    (theirs,) = plan_of(base, step)
    rloo = registry.load(f"{NAME}@rloo")().stages()
    (mine,) = plan_of(rloo, step)
    factor = step.ctx.group_size / (step.ctx.group_size - 1)
    ours, expected = update(rloo, step, mine)[1], factor * update(base, step, theirs)[1]
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-9)
    bare = registry.load(f"{NAME}@plusplus-baseline")().stages()
    bare = bare.with_(advantage=replace(bare.advantage, whiten="none"))
    (mine,) = plan_of(bare, step)
    torch.testing.assert_close(update(bare, step, mine), update(base, step, theirs), rtol=1e-6, atol=1e-9)


def test_one_response_a_prompt_is_enough_without_a_group_baseline() -> None:
    one = "rollout.group_size=1"
    assert tiny_trainer(one, "train.lr=1e-2", method=f"{NAME}@plusplus").step()["updates"] > 0
    small_run(one, method=f"{NAME}@plain")
    for entry in ("plusplus-baseline", "rloo", "rloo-trl"):
        with pytest.raises(Exception, match="use at least 2"):
            small_run(one, method=f"{NAME}@{entry}")


def test_the_kl_in_the_reward_is_logged() -> None:
    trainer = tiny_trainer("train.lr=1e-2", "method.kl_coef=0.1", method=f"{NAME}@rloo-trl")
    rows = [trainer.step(), trainer.step()]
    assert rows[0]["kl_in_reward/kl"] == pytest.approx(0, abs=1e-6) and abs(rows[1]["kl_in_reward/kl"]) > 1e-6
