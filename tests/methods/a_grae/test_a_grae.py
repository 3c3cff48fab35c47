"""A-GRAE by hand, and what it does to right and wrong, easy and hard."""

from __future__ import annotations

import pytest
import torch

from harness.util.errors import UserError
from methods.a_grae import AsymmetricAdvantage, attenuated, refocused
from tests.methods.support.golden import make_batch, plain_context


def advantages(reward: list[float], group: list[int], **values: float) -> list[float]:
    mask = torch.ones(len(reward), 1)
    batch = make_batch(mask, reward_B=torch.tensor(reward, dtype=torch.float64), group_B=torch.tensor(group))
    made = AsymmetricAdvantage(**values)(batch, plain_context(mask))  # type: ignore[arg-type]
    return made.value.tolist()  # type: ignore[no-any-return]


def test_two_prompts_by_hand() -> None:
    """Rates 1/4 and 3/4, so P = 1/2, alpha 1."""
    found = advantages([1.0, 0, 0, 0, 1, 1, 1, 0], [0] * 4 + [1] * 4)
    assert found[:2] == pytest.approx([0.749997, -0.499998], abs=1e-6)
    assert found[6:] == pytest.approx([0.538670, -3.232022], abs=1e-6)


def test_the_focus_moves_from_easy_prompts_to_hard_ones() -> None:
    """At P = 0 an easy prompt gets more than a hard one, at P = 1 less; at p = 1/4 nothing changes."""
    one, rates = torch.ones(3, dtype=torch.float64), torch.tensor([0.04, 0.25, 0.81], dtype=torch.float64)
    early, late = refocused(one, rates, 0.0, 0.0), refocused(one, rates, 1.0, 0.0)
    assert early.tolist() == pytest.approx([0.625, 1.0, 5.0])
    assert late.tolist() == pytest.approx([2.5, 1.0, 5 / 9])


def test_right_rollouts_count_in_full_from_alpha_on() -> None:
    values = torch.tensor([2.0, 0.0, -2.0])
    assert attenuated(values, 0.25, 0.5).tolist() == [1.0, 0.0, -2.0]
    assert attenuated(values, 0.75, 0.5).tolist() == values.tolist()


def test_groups_without_contrast_have_no_credit() -> None:
    assert advantages([1.0, 1, 0, 0], [0, 0, 1, 1]) == [0.0] * 4


def test_a_reward_without_a_root_is_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match="a-grae needs rewards from 0 to 1.*-1 to 1; take a reward of 1"):
        advantages([1.0, -1.0], [0, 0])
