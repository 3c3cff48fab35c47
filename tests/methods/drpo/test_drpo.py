"""DRPO's weights by hand, who is pushed where, and groups that stay whole."""

from __future__ import annotations

import pytest
import torch

from harness.registry import methods as registry
from harness.stages.base import Minibatch
from harness.stages.groups import check_whole
from harness.util.errors import UserError
from methods.drpo import LengthShare, log_length_weight, shares
from tests.methods.support.golden import make_batch, plain_context
from tests.methods.support.pipeline import make_step, plan_of, update
from tests.methods.support.registered import make

ALL = torch.ones(2, dtype=torch.bool)


def test_two_right_responses_by_hand() -> None:
    """Of 2 and 4 tokens, limit 8, Lambda 0.1: the soft-max of two values 2.5 apart."""
    weight = log_length_weight(torch.tensor([2, 4]), 8, 0.1)
    assert shares(weight, ALL, torch.zeros(2)).tolist() == pytest.approx([0.924142, 0.075858], abs=1e-6)


def test_weights_that_no_number_holds_are_shared_all_the_same() -> None:
    weight = log_length_weight(torch.tensor([1, 8192]), 8192, 1e-4)
    assert shares(weight, ALL, torch.zeros(2)).tolist() == [1.0, 0.0]


def test_no_right_response_is_pushed_down_and_no_wrong_one_up() -> None:
    """Without the hinge, a step along the gradient raises the log-prob of every right token."""
    step = make_step(1, minibatches=1)
    stages = make("drpo", {"beta": 0.0})
    (minibatch,) = plan_of(stages, step)
    _, grad_BTV = update(stages, step, minibatch)
    own_BT = grad_BTV.gather(2, step.batch.response_BT[..., None])[..., 0]
    mask, right = step.batch.mask_BT, step.batch.correct_B > 0
    mixed = torch.tensor([0 < float(right[step.batch.group_B == g].float().mean()) < 1 for g in range(5)])
    used = mixed[step.batch.group_B]
    assert bool((own_BT[right & used][mask[right & used]] < 0).all())
    assert bool((own_BT[~right & used][mask[~right & used]] > 0).all())
    assert not bool(grad_BTV[~used].any()), "a prompt without contrast has no gradient"


@pytest.mark.parametrize("seed", range(4))
def test_no_minibatch_splits_a_group(seed: int) -> None:
    step = make_step(seed, minibatches=3)
    plan = plan_of(make("drpo", {}), step)
    assert len(plan) == 3
    for minibatch in plan:
        check_whole(minibatch.batch, minibatch.batch.tags["group_rows"])
        assert bool((minibatch.batch.tags["group_rows"] == 4).all())


def test_a_split_group_is_noticed() -> None:
    step = make_step(0, minibatches=1)
    stages = make("drpo", {})
    (minibatch,) = plan_of(stages, step)
    with pytest.raises(ValueError, match="a group is split"):
        update(stages, step, Minibatch(minibatch.batch.rows(range(1, 20))))


def test_the_loss_is_not_taken_without_its_plan() -> None:
    with pytest.raises(UserError, match="group_rows.*plan=drpo"):
        registry.load("grpo+loss=drpo+advantage=drpo")().stages()


def test_a_reward_that_is_neither_right_nor_wrong_is_refused() -> None:
    mask = torch.ones(2, 1)
    batch = make_batch(mask, reward_B=torch.tensor([1.0, 0.5]), group_B=torch.zeros(2))
    with pytest.raises(UserError, match="exactly 1 and 0.*take a reward of 1"):
        LengthShare(0.1)(batch, plain_context(mask))
