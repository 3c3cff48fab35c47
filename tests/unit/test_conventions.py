"""What several methods count or normalise alike: shares, log-probs, the KL in the reward, a row alone."""

from __future__ import annotations

import math

import pytest
import torch

from harness.model.logits import token_stats
from harness.registry import methods
from harness.stages.credit import KL_METRIC, KLReward, mean_kl
from harness.stages.defaults import group_normalised
from harness.stages.loss import share_of
from harness.stages.token_stats import LOGP, LogProb
from methods.hapo import token_weighted
from methods.reinforce_family import BaselineThenKL, standardised


@pytest.mark.parametrize(
    ("n", "share", "down", "up"),
    [(100, 0.29, 29, 29), (100, 0.07, 7, 7), (11, 0.2, 2, 3), (10, 0.2, 2, 2), (3, 0.2, 1, 1), (0, 0.2, 1, 1),
     (7, 1.0, 7, 7)],
)  # fmt: skip
def test_a_share_is_rounded_in_one_way(n: int, share: float, down: int, up: int) -> None:
    assert (int(share_of(n, share)), int(share_of(n, share, up=True))) == (down, up)
    many = share_of(torch.tensor([n, n]), share)
    assert many.dtype == torch.int64 and many.tolist() == [down, down]


def test_rounding_decides_no_whole_share() -> None:
    for n in range(1, 400):
        for percent in range(1, 101):
            if n * percent % 100 == 0:
                whole = n * percent // 100
                assert int(share_of(n, percent / 100)) == int(share_of(n, percent / 100, up=True)) == whole
    assert int(share_of(3, 0.2, least=0)) == 0


def test_a_row_without_others_keeps_its_value() -> None:
    one, group = torch.tensor([0.6]), torch.tensor([4])
    assert group_normalised(one, group).tolist() == pytest.approx([0.6], rel=1e-5)
    assert group_normalised(one, group, scale="none").tolist() == pytest.approx([0.6])
    assert group_normalised(one, group, scale="batch").tolist() == pytest.approx([0.6], rel=1e-5)
    assert standardised(one).tolist() == pytest.approx([0.6 / (1 + 1e-4)])
    assert token_weighted(one, group, torch.tensor([3]), 8).tolist() == pytest.approx([0.6], rel=1e-5)


def test_standardised_rows_are_those_of_trl() -> None:
    values = torch.tensor([0.5, -1.0, 2.0, 0.25], dtype=torch.float64)
    wanted = (values - values.mean()) / (values.std() + 1e-4)
    assert torch.allclose(standardised(values), wanted, atol=1e-12)
    batch = group_normalised(values, torch.tensor([0, 0, 1, 1]), scale="batch")
    means = torch.tensor([-0.25, -0.25, 1.125, 1.125], dtype=torch.float64)
    assert torch.allclose(batch, (values - means) / (values.std() + 1e-6), atol=1e-12)


def test_the_kl_in_the_reward_is_logged_as_the_mean_over_responses() -> None:
    kl = torch.tensor([[1.0, 3.0, 0.0], [4.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert mean_kl(kl, mask) == pytest.approx(3.0), "of the tokens it would be 8 / 3"
    rewards = {}
    for name, settings in (
        ("kl-penalty@reward", {}),
        ("entropy-bonus", {"kl_in_reward_coef": 0.1}),
        ("reinforce-family@plusplus", {"kl_coef": 0.1}),
    ):
        rewards[name] = type(methods.load(name)(**settings).stages().reward)
    assert set(rewards.values()) == {KLReward} and KL_METRIC == "kl_in_reward/kl"
    assert BaselineThenKL.__call__.__globals__["mean_kl"] is mean_kl


def test_the_entropy_state_has_one_name() -> None:
    for name in ("aepo", "dcpo"):
        (state,) = methods.load(name)().stages().components.values()
        signals = type("Signals", (), {"update_nll": 0.75})()
        found = {"entropy_state/h": 0.75, "target_error": 0.25, "target_above": 1.0}
        assert state.after_update(signals, None) == found  # type: ignore[arg-type]


def test_a_log_prob_at_scale_1_is_the_log_prob() -> None:
    assert LogProb(scale=1.0) == LOGP and LogProb(scale=1).name == "logp" and LOGP.is_log_prob
    half = LogProb(scale=0.5)
    assert half.name == "logp@0.5" and not half.is_log_prob
    hidden, weight = torch.randn(5, 4), torch.randn(7, 4)
    target = torch.tensor([0, 1, 2, 3, 6])
    found = token_stats(hidden, weight, target, stats=tuple({LOGP, LogProb(scale=1.0), half}))
    assert sorted(found) == ["logp", "logp@0.5"]
    wanted = (hidden @ weight.T * 0.5).log_softmax(1)[torch.arange(5), target]
    assert torch.allclose(found["logp@0.5"], wanted, atol=1e-6)
    assert not math.isclose(float(found["logp"][0]), float(wanted[0]), rel_tol=1e-3)
