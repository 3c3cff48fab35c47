"""Groups as wholes: means, minibatches that do not split them, and what is refused."""

from __future__ import annotations

import pytest
import torch

from harness.config.schema import RunConfig
from harness.stages.defaults import ShuffledMinibatches
from harness.stages.groups import WholeGroups, check_whole, group_means
from harness.stages.refusals import refuse_lone_rollouts, refuse_rewards_outside, refuse_split_groups
from harness.util.errors import UserError
from tests.methods.support.golden import make_batch, plain_context

GROUP = torch.tensor([5, 2, 5, 2, 9])


def test_means_are_in_the_order_of_the_groups_numbers() -> None:
    mean, index = group_means(torch.tensor([1.0, 0.25, 0.0, 0.75, 3.0]), GROUP)
    assert mean.tolist() == [0.5, 0.5, 0.0], "a group of one has mean 0, as everywhere"
    assert index.tolist() == [1, 0, 1, 0, 2]


@pytest.mark.parametrize("minibatches", [1, 2, 3, 8])
def test_whole_groups_stay_whole_and_others_are_split(minibatches: int) -> None:
    mask = torch.ones(12, 2)
    batch = make_batch(mask, group_B=torch.arange(3).repeat(4))
    context = plain_context(mask, minibatches=minibatches)
    plan = WholeGroups()(batch, context).value
    assert len(plan) == min(minibatches, 3) and sum(len(m.batch) for m in plan) == 12
    for minibatch in plan:
        check_whole(minibatch.batch, minibatch.batch.tags["group_rows"])
    split = ShuffledMinibatches(by_group=False)(batch.with_tags(group_rows=torch.full((12,), 4.0)), context)
    if minibatches > 1:
        with pytest.raises(ValueError, match="a group is split"):
            for minibatch in split.value:
                check_whole(minibatch.batch, minibatch.batch.tags["group_rows"])


def test_what_splits_groups_is_refused_with_the_remedy() -> None:
    run = RunConfig()
    refuse_split_groups(run, "x")
    refuse_lone_rollouts(run, "x compares")
    run.train.scope = "micro"
    with pytest.raises(UserError, match="x needs whole groups.*train.scope=minibatch"):
        refuse_split_groups(run, "x")
    run.train.scope, run.train.minibatches = "minibatch", run.rollout.prompts_per_step + 1
    with pytest.raises(UserError, match="lower it or raise rollout.prompts_per_step"):
        refuse_split_groups(run, "x")
    run.rollout.group_size = 1
    with pytest.raises(UserError, match="x compares, and rollout.group_size=1.*use at least 2"):
        refuse_lone_rollouts(run, "x compares")


def test_rewards_are_looked_at_with_their_ends() -> None:
    refuse_rewards_outside(torch.tensor([0.0, 1.0]), 0.0, 1.0, "x", "change it")
    refuse_rewards_outside(torch.zeros(0), 0.0, 1.0, "x", "change it")
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="x needs rewards from 0 to 1.*change it"):
            refuse_rewards_outside(torch.tensor([0.5, bad]), 0.0, 1.0, "x", "change it")
