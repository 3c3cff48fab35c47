"""BNPO's Beta law by hand, and where it cannot be fitted."""

from __future__ import annotations

import math

import pytest
import torch

from harness.stages.groups import group_means
from harness.util.errors import UserError
from methods.bnpo import BetaNormalised, beta_parameters, density_weight
from tests.methods.support.golden import make_batch, plain_context


def advantages(reward: list[float], group: list[int], stage: BetaNormalised | None = None) -> list[float]:
    mask = torch.ones(len(reward), 1)
    values = torch.tensor(reward, dtype=torch.float64)
    batch = make_batch(mask, reward_B=values, group_B=torch.tensor(group))
    return (stage or BetaNormalised())(batch, plain_context(mask)).value.tolist()  # type: ignore[no-any-return]


def test_three_prompts_by_hand() -> None:
    """Rates 1/4, 3/4 and 1/2: v = 1/16, a = b = 3/2, alpha = beta = 3/2."""
    reward = [1.0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0]
    group = [0] * 4 + [1] * 4 + [2] * 4
    p_G, _ = group_means(torch.tensor(reward), torch.tensor(group))
    alpha, beta = beta_parameters(p_G)
    assert (float(alpha), float(beta)) == pytest.approx((1.5, 1.5))
    weight = density_weight(p_G, alpha, beta)
    assert weight.tolist() == pytest.approx([0.906900, 0.906900, math.pi / 4], abs=1e-6)
    found = advantages(reward, group)
    assert found[:2] == pytest.approx([0.680175, -0.226725], abs=1e-6)
    assert found[8:] == pytest.approx([0.392699, 0.392699, -0.392699, -0.392699], abs=1e-6)


def test_half_is_grpo_up_to_a_factor() -> None:
    """alpha = beta = 3/2: the density is 8 / pi times sqrt(p (1 - p)), a verdict's deviation."""
    p_G = torch.tensor([0.1, 0.4, 0.7], dtype=torch.float64)
    half = torch.tensor(1.5, dtype=torch.float64)
    std = (p_G * (1 - p_G)).sqrt()
    assert torch.allclose(density_weight(p_G, half, half) * std, torch.full_like(p_G, math.pi / 8))


def test_equal_rates_have_no_law_and_stay_finite() -> None:
    assert advantages([1.0, 0, 0, 1], [0, 0, 1, 1]) == [0.5, -0.5, -0.5, 0.5]
    assert advantages([0.0] * 4, [0, 0, 1, 1]) == [0.0] * 4
    assert advantages([1.0, 0.0], [3, 3]) == [0.5, -0.5], "a single group"


def test_prompts_always_or_never_solved_have_no_credit_but_count() -> None:
    """Rates 1/4, 1/2, 3/4, and with them 0 and 1: m = 1/2, v = 5/32, so a = b = 0.3, alpha = beta = 1.1."""
    reward, group = [1.0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0], [0] * 4 + [1] * 4 + [2] * 4
    more = advantages([*reward, *[0.0] * 4, *[1.0] * 4], [*group, *[3] * 4, *[4] * 4])
    assert more[12:] == [0.0] * 8
    # 1 / Beta(1/2; 1.1, 1.1) = Gamma(1.1)^2 / Gamma(2.2) / 2^-0.2
    assert more[4] == pytest.approx(0.5 * math.gamma(1.1) ** 2 / math.gamma(2.2) * 2**0.2)
    assert advantages(reward, group)[4] == pytest.approx(math.pi / 8)


def test_a_reward_outside_the_range_is_refused_with_the_remedy() -> None:
    assert advantages([1.0, -1.0], [0, 0], BetaNormalised(r_min=-1.0)) == [0.5, -0.5]
    with pytest.raises(UserError, match="bnpo needs rewards from 0 to 1.*-1 to 1; set method.r_min"):
        advantages([1.0, -1.0], [0, 0])
