"""ARES on numbers worked out by hand, its state from step to step, and what its entries share."""

from __future__ import annotations

import copy

import pytest
import torch

from harness.registry import methods as registry
from harness.stages.base import Component
from methods.ares import (
    AresState,
    RewardBand,
    adapted_alpha,
    bucket_means,
    counted,
    entropy_score,
    paper_score,
    sample_threshold,
)
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.golden import make_batch
from tests.methods.support.pipeline import make_step
from tests.methods.support.programs import CTX, signals

RUN = ("method.triggers=a e o n t r i s", "method.window=1", "method.kl_interval=1", "train.lr=1e-2")


def score(right: int, level: int, count: float, target: float = 20.0, alpha: float = 0.5) -> float:
    values = [torch.tensor([v]).double() for v in (count, target, alpha)]
    return float(entropy_score(torch.tensor([right]), torch.tensor([level]), *values))


def test_a_right_answer_to_an_easy_problem_pays_for_counts_above_the_target() -> None:
    """The sheet's numbers: N* = 20, alpha 0.5, so a margin of 3 and a cap of 0.5."""
    assert [score(1, 0, n) for n in (30, 25, 23, 5)] == pytest.approx([-0.5, -0.1, 0.0, 0.0])
    # medium: margin 5, huber 3, on both sides; delta -12 is 7 too far: 7 - 1.5 of 8
    assert [score(1, 1, n) for n in (8, 24)] == pytest.approx([-0.5 * 5.5 / 8, 0.0])
    # hard: margin 7, cap 0.6; enough counts are rewarded, few cost at most half as fast
    assert score(1, 2, 13) == pytest.approx(0.3)
    assert score(1, 2, 10) == pytest.approx(-0.6 * 0.5 * 3**2 / 8 / 11)


def test_a_wrong_answer_gains_whatever_it_counts() -> None:
    assert [score(0, d, 0) for d in (0, 1, 2)] == pytest.approx([0.15, 0.2, 0.3])
    assert score(0, 0, 100) == pytest.approx(0.3) and 0.15 < score(0, 0, 25) < 0.3


def test_counts_need_a_whole_window_and_thresholds_do_not() -> None:
    entropy = torch.tensor([[9.0, 1, 3, 2, 5], [2.0, 4, 9, 9, 9], [7.0, 9, 9, 9, 9]]).double()
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    got = counted(entropy, torch.ones(3, 5), mask, 2, 2.5)
    assert got.high_B.tolist() == [2, 0, 0] and got.low_B.tolist() == [1, 0, 0]  # means 2, 2.5, 3.5
    assert got.excess_B.tolist() == pytest.approx([1.0, 0.0, 0.0])
    # 2, 2.5, 3.5 and twice their mean; the first token where there is no window
    assert sample_threshold(entropy, mask, 2, 50.0).tolist() == pytest.approx([8 / 3, 2.0, 7.0])


def test_targets_are_means_of_prompts_and_alpha_follows_the_rounding() -> None:
    count = torch.tensor([1.0, 2, 4, 4, 7]).double()
    group, level = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 0, 0, 0, 2])
    means = bucket_means(count, group, level)
    assert means == [2.75, None, 7.0]
    assert adapted_alpha([0.5, 0.4, 0.3], means, 0.05, 0.0, 2.0) == pytest.approx([0.4875, 0.4, 0.3])
    assert adapted_alpha([0.5] * 3, [None, None, 6.6], 0.05, 0.0, 2.0)[2] == pytest.approx(0.52)
    assert adapted_alpha([0.01, 1.99, 0.5], [1.6, 1.4, None], 0.5, 0.0, 2.0) == [0.0, 2.0, 0.5]


def test_in_the_paper_wrong_answers_pay_where_the_mean_is_above_the_target() -> None:
    count, level = torch.tensor([4.0, 6, 1, 3, 2]).double(), torch.tensor([0, 0, 1, 1, 2])
    got, weights = paper_score(torch.tensor([0, 1, 0, 0, 0]), level, count, [3.0, 1.0, 5.0])
    assert weights == pytest.approx([2.0, 1.0, 0.0], abs=1e-5)  # (5 - 3) / 1, (2 - 1) / 1, below the target
    assert got.tolist() == pytest.approx([-2.0, 0.0, 0.0, -2.0, 0.0], abs=1e-5)


def test_a_difficulty_that_is_new_pays_nothing() -> None:
    step = make_step(1)
    ids = torch.full(step.batch.mask_BT.shape, 2.0)
    batch = step.batch.with_(old={"top_token": ids, "entropy": torch.ones(step.batch.mask_BT.shape)})
    made = registry.load("ares@paper")(triggers="c", window=1).stages()
    state = made.components["ares"]
    assert torch.equal(made.reward(batch, step.ctx).value, batch.correct_B)
    state.after_update(signals(), step.ctx)
    known = state.state_dict()["target"]
    assert max(known) > 0 and made.reward(batch, step.ctx).metrics["ares/target_hard"] == known[2]
    state.load_state_dict(state.state_dict() | {"target": [0.0] * 3})
    assert float(made.reward(batch, step.ctx).metrics["ares/score"]) < 0


def test_the_band_is_of_shaped_rewards_or_of_verdicts() -> None:
    batch = make_batch(
        torch.ones(4, 1), group_B=torch.tensor([0, 0, 1, 1]), correct_B=torch.tensor([0.0, 0, 1, 0]),
        reward_B=torch.tensor([0.3, 0.2, 1.0, 1.2]),
    )  # fmt: skip
    assert RewardBand(True)(batch, CTX).value.tolist() == [True, True, False, False]
    assert RewardBand(False)(batch, CTX).value.tolist() == [False, False, True, True]


def test_thresholds_hold_for_the_rollouts_that_follow() -> None:
    state = AresState()
    for threshold, tau in ((2.0, 2.0), (1.0, 1.99)):
        state.propose(threshold, [0.1] * 3, [4.0] * 3)
        before = state.state_dict()
        assert before["tau"] != pytest.approx(tau)
        state.after_update(signals(), CTX)
        assert state.tau == pytest.approx(tau) and state.alpha == [0.1] * 3 and state.target == [4.0] * 3
    state.after_update(signals(), CTX)  # a step without rewards
    assert state.batches == 2


@pytest.mark.parametrize("name", ["ares@released", "ares@paper"])
def test_a_resumed_run_goes_on_alike(name: str) -> None:
    trainer = tiny_trainer(*RUN, method=name)
    first = trainer.step()
    assert first["ares/triggers"] > 0 and first["kl_weight/hard"] != 1.0
    saved = copy.deepcopy(trainer.state_dict())
    second = tiny_trainer(*RUN, method=name)
    second.load_state_dict(saved)
    assert second.step() == trainer.step()


def test_a_kl_of_the_step_moves_its_own_weight() -> None:
    step = make_step(2, minibatches=1)
    made = registry.load("ares@released")(kl_interval=1).stages()
    weights: Component = made.components["ares_kl"]
    batch = step.batch.with_(ref_logp_BT=torch.zeros(step.batch.mask_BT.shape))
    batch = made.selection(batch, step.ctx).value
    before = weights.state_dict()
    prepared = made.regularisers[0].prepare(batch, {"logp": torch.full(step.batch.mask_BT.shape, -1.0)})
    beta = prepared.value["beta"][:, 0]
    assert bool((beta > 1).all()) and weights.state_dict() == before
    weights.after_minibatch(0.0, step.ctx)
    moved = weights.state_dict()
    torch.testing.assert_close(beta, torch.tensor(moved["beta"])[batch.tags["difficulty"]])
    assert moved["calls"] == 1
