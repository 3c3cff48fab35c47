"""COPO's entropy and weights by hand, every mode, and what both of its losses do."""

from __future__ import annotations

import pytest
import torch

from harness.stages.answers import clustered
from methods.copo import MODES, between_groups, entropy_bits, group_rewards, local_weight
from tests.methods.support.pipeline import make_step, plan_of, update
from tests.methods.support.registered import make

ONE = torch.zeros(4, dtype=torch.int64)
DIFFER, AGREE = ["a", "a", "b", "c"], ["a"] * 4


def test_entropy_coefficient_and_weight_by_hand() -> None:
    bits = entropy_bits(clustered(DIFFER, ONE), ONE)
    assert bits.tolist() == pytest.approx([1.5] * 4, abs=1e-6)
    reward = torch.ones(4, dtype=torch.float64)  # lambda = (1 - 1/4) / 2 = 0.375
    assert group_rewards(reward, ONE, bits, True).tolist() == pytest.approx([0.4375] * 4, abs=1e-6)
    assert group_rewards(reward, ONE, bits, False).tolist() == [1.0] * 4
    for answers, weight in ((DIFFER, 0.924142), (AGREE, 0.006693)):
        bits = entropy_bits(clustered(answers, ONE), ONE)
        found = local_weight("only-soft", bits, reward, reward, 5.0, 1.0)
        assert found.tolist() == pytest.approx([weight] * 4, abs=1e-6)


def test_the_modes() -> None:
    bits, reward = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([1.0, 0.0, 1.0])
    advantage = torch.tensor([0.5, -0.5, 0.0])
    found = {m: local_weight(m, bits, reward, advantage, 5.0, 1.0).tolist() for m in MODES}
    assert found == {
        "soft-with-zero": [0.5, 0.0, 0.5],
        "soft-with-forced": [0.5, 0.5, 0.0],
        "only-soft": [0.5, 0.5, 0.5],
        "only-zero": [1.0, 0.0, 1.0],
        "only-forced": [1.0, 1.0, 0.0],
        "only-global": [0.0, 0.0, 0.0],
        "no-global": [1.0, 1.0, 1.0],
    }


def test_prompts_are_compared_as_prompts() -> None:
    """However many rollouts each has: three of one prompt do not count three times."""
    group = torch.tensor([0, 0, 0, 1, 2])
    credit = between_groups(torch.tensor([1.0, 1.0, 1.0, 0.5, 0.0]).double(), group)
    assert credit.tolist() == pytest.approx([1.0, 1.0, 1.0, 0.0, -1.0], abs=1e-5)
    alone = between_groups(torch.tensor([0.75, 0.75]), torch.tensor([3, 3]))
    assert alone.tolist() == pytest.approx([0.75, 0.75], abs=1e-5)


def test_a_group_of_equal_verdicts_learns_from_the_other_prompts() -> None:
    """The first group is all right: no gradient in GRPO; it is better than the average prompt here."""
    step, logps = make_step(0, minibatches=1), {}
    for name in ("grpo", "copo"):
        made = make(name, {})
        (minibatch,) = plan_of(made, step)
        gradient = update(made, step, minibatch)[1][:4]
        chosen = step.batch.response_BT[:4, :, None]
        logps[name] = torch.where(step.batch.mask_BT[:4], gradient.gather(2, chosen)[..., 0], 0.0)
    assert not bool(logps["grpo"].any())
    assert bool((logps["copo"] <= 0).all()) and bool(logps["copo"].any())  # downhill is towards them
