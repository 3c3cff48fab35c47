"""MC-GRPO's median by hand, the rollouts it draws, and what its denominators count."""

from __future__ import annotations

import pytest
import torch

from methods.mc_grpo import median_centred, rescaled
from tests.methods.support.pipeline import make_step, plan_of, rows_of
from tests.methods.support.programs import CTX, drive
from tests.methods.support.registered import make


def test_a_group_by_hand() -> None:
    reward = torch.tensor([0.0, 1, 2, 4, 3], dtype=torch.float64)
    advantage, median = median_centred(reward, torch.zeros(5))
    assert advantage.tolist() == pytest.approx([-1.998002, -0.999001, 0, 1.998002, 0.999001], abs=1e-6)
    assert median.tolist() == [False, False, True, False, False]


def test_verdicts_of_which_the_majority_is_the_median() -> None:
    reward, group = torch.tensor([0.0, 0, 1, 0, 1] * 2, dtype=torch.float64), torch.tensor([7] * 5 + [3] * 5)
    advantage, median = median_centred(reward, group)
    assert advantage.tolist() == pytest.approx([0, 0, 1000, 0, 1000] * 2)
    assert int(median.sum()) == 2 and not bool(advantage[median].any())
    assert rescaled(advantage, group).tolist() == pytest.approx([0, 0, 2500, 0, 2500] * 2)


def test_of_an_even_number_the_lower_middle_one_is_the_median() -> None:
    advantage, median = median_centred(torch.tensor([3.0, 1, 2, 5]), torch.zeros(4))
    assert median.tolist() == [False, False, True, False]
    assert advantage.tolist() == pytest.approx([1 / 1.001, -1 / 1.001, 0, 3 / 1.001])


def test_one_response_more_is_drawn_than_trains() -> None:
    batch, _ = drive(make("mc-grpo", {}).rollout.run(CTX), lambda p, s: s == 0)
    assert len(batch) == CTX.prompts_per_step * (CTX.group_size + 1)
    assert batch.sample_B.tolist() == [0, 1, 2, 3] * 4
    assert batch.tags["extra"].tolist() == [0.0, 0, 0, 1] * 4


@pytest.mark.parametrize(("how", "all_tokens"), [("token-mean", True), ("seq-mean-token-mean", False)])
def test_what_the_denominator_counts(how: str, all_tokens: bool) -> None:
    step = make_step(2)
    plan = plan_of(make("mc-grpo", {"aggregation": how}), step)
    assert len(rows_of(plan)) == 15  # of five groups of four
    lengths = step.batch.length_B
    assert sum(int(m.batch.train_mask_BT.sum()) for m in plan) == int(lengths[rows_of(plan)].sum())
    for minibatch in plan:
        of_groups = torch.isin(step.batch.group_B, minibatch.batch.group_B)
        counted = int(minibatch.batch.denominator_mask_BT.sum())
        wanted = lengths[of_groups] if all_tokens else lengths[minibatch.batch.tags["row"]]
        assert counted == int(wanted.sum())
