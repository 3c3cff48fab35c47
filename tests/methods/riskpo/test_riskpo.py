"""RiskPO by hand, its credits and tracker, and what its measure does to the entropy."""

from __future__ import annotations

import pytest
import torch

from methods.riskpo import LEVELS, QuantileTracker, Risk, credited, thresholds
from tests.methods.support.golden import make_batch, plain_context
from tests.methods.support.pipeline import make_step, plan_of
from tests.methods.support.programs import signals
from tests.methods.support.registered import make
from tests.methods.support.tabular import PLAIN, Expected, change, stages

SCORES = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)


def test_three_papers_by_hand() -> None:
    risk = Risk(norm_by_std=False)
    plain = risk.advantages(SCORES, 0.5, 1.5)
    assert plain.tolist() == pytest.approx([-1.499993, 0.333333, 0.666666], abs=1e-6)
    natural = Risk(norm_by_std=False, natural=True).advantages(SCORES, 0.5, 1.5)
    assert natural.tolist() == pytest.approx([-2.166658, -0.333333, 0.0], abs=1e-6)
    assert torch.allclose(Risk().advantages(SCORES, 0.5, 1.5), plain, atol=1e-5), "their std is 1"
    (alone,) = Risk(norm_by_std=True).advantages(SCORES[1:2], 1.0, 1.0).tolist()
    assert alone == 0.0, "a single paper is its own quantile"


@pytest.mark.parametrize(
    ("mode", "wanted"), [("batch", (0.4, 1.6)), ("track", (1.0, 3.0)), ("mix", (0.7, 2.3))]
)
def test_thresholds(mode: str, wanted: tuple[float, float]) -> None:
    assert thresholds(SCORES, 0.2, 0.8, (1.0, 3.0), mode) == pytest.approx(wanted)
    assert thresholds(SCORES, 0.2, 0.8, None, mode) == pytest.approx((0.4, 1.6))


@pytest.mark.parametrize(
    ("credit", "wanted"),
    [
        ("uniform", [[2.0, -1.0], [2.0, -1.0]]),
        ("score", [[1.0, -1.5], [3.0, -0.5]]),
        ("std", [[4.0, -2.0], [2.0, -1.0]]),  # the second prompt's rewards hardly differ
        # shares of the first paper: 0.5 and -0.25 of 0.25; the second paper's cancel
        ("sum-mean", [[4.0, -0.5], [-2.0, -0.5]]),
    ],
)
def test_what_a_rollout_gets_of_its_paper(credit: str, wanted: list[list[float]]) -> None:
    reward = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    mean = torch.tensor([[0.5, 0.5], [0.25, 0.5]], dtype=torch.float64)
    std = torch.tensor([[0.5, 0.5], [1e-3, 1e-3]], dtype=torch.float64)
    made = credited(torch.tensor([2.0, -1.0], dtype=torch.float64), reward, mean, std, credit)
    assert made.tolist() == [pytest.approx(row, abs=1e-5) for row in wanted]


def step_of(tracker: QuantileTracker, reward: list[float], group: list[int]) -> None:
    mask = torch.ones(len(reward), 1)
    batch = make_batch(mask, reward_B=torch.tensor(reward), group_B=torch.tensor(group))
    tracker.before_update(batch, plain_context(mask))
    tracker.after_update(signals(), plain_context(mask))


def test_the_tracker_starts_at_the_scores_and_follows_them() -> None:
    tracker = QuantileTracker(2, 0.1)
    assert tracker.at(0.2, 0.8) is None and tracker.middle_mean(0.0, 1.0) == 0.0
    step_of(tracker, [0.0, 1, 0, 1], [0, 0, 1, 1])  # papers of 0 and 2
    assert tracker.quantiles == pytest.approx([2 * level for level in LEVELS])
    assert tracker.at(0.2, 0.82) == pytest.approx((0.4, 1.6))
    # (q - 0.4)+ - (q - 1.6)+ of q = 2 level, over .05 to .95: a ramp of 0.6 and a plateau of 0.15
    assert tracker.middle_mean(0.4, 1.6) == pytest.approx(0.36 + 0.18)
    step_of(tracker, [1.0, 1, 1, 1], [0, 0, 1, 1])  # all 2: below none of them
    assert tracker.quantiles == pytest.approx([2.1 * level for level in LEVELS])


def test_the_released_form_keeps_nothing() -> None:
    assert make("riskpo", {}).components == {}
    kept = make("riskpo", {"carry_tracker": True})
    assert kept.advantage.tracker is kept.components["riskpo"]  # type: ignore[attr-defined]


def test_a_filter_leaves_other_bundles_alone() -> None:
    """Without its second and third prompt a step's other bundle has the advantages that it had."""
    step = make_step(2)
    options = {"bundle_size": 3, "credit": "uniform"}
    reward, group = step.batch.correct_B, step.batch.group_B
    whole = make("riskpo", options).advantage.of(reward, group, None).value  # type: ignore[attr-defined]
    left = (group == 0) | (group >= 3)
    part = make("riskpo", options).advantage.of(reward[left], group[left], None).value  # type: ignore[attr-defined]
    assert torch.equal(part[group[left] >= 3], whole[group >= 3])
    assert not torch.equal(part[group[left] == 0], whole[group == 0])
    assert len(plan_of(make("riskpo", options), step)) == 2


@pytest.mark.parametrize("sharpness", [0.5, 1.5])
def test_entropy_falls_less_than_with_the_mean(sharpness: float) -> None:
    """Scores that rise with the log-prob, as those of a policy that is mostly right: of advantages of equal
    size those of the mean lower the entropy most, because it falls with their covariance with the log-prob,
    and what lies above the upper threshold counts no more for the risk."""
    expected, size = Expected.make(sharpness), 1e-4
    logits, tokens = expected.logits[:100], expected.tokens[:100]
    score = logits.log_softmax(1).gather(1, tokens)
    uneven = score.std(1) > 0.1
    risk = Risk(norm_by_std=False)
    credit = torch.stack([risk.advantages(own, *thresholds(own, 0.2, 0.8, None, "track")) for own in score])
    fell = {}
    for name, value in (("mean", score), ("risk", credit)):
        even = (value - value.mean(1, keepdim=True)) / (value.std(1, keepdim=True) + 1e-9)
        fell[name] = change(stages("grpo", **PLAIN), logits, tokens, even, size)[uneven]
    assert bool((fell["mean"] < 0).all()) and bool((fell["risk"] < 0).all())
    less = fell["risk"] - fell["mean"]
    assert bool((less > -1e-9).all()), "where one action fills all levels from a to b both are a line"
    assert float((less > 1e-8).double().mean()) > 0.8 and len(less) > 50


def test_a_lone_rollout_has_no_share_by_its_mean() -> None:
    """Its reward is its own mean, so it differs from it by nothing; the other prompt bears the paper."""
    reward, group = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([0, 1, 1, 1])
    credit = make("riskpo", {"bundle_size": 2, "quantile_down": 0.3}).advantage
    made = credit.of(reward, group, (3.0, 4.0)).value.tolist()  # type: ignore[attr-defined]
    assert made[0] == 0.0 and made[1] < 0 and made[2:] == [0.0, 0.0]


def test_both_parts_lose_their_tracked_mean() -> None:
    tracker = QuantileTracker(2, 0.1)
    tracker.load_state_dict({"quantiles": [2 * level for level in LEVELS]})
    # -(0.4 - q)+ of q = 2 level, over .05 to .95: a triangle of legs 0.15 and 0.3
    assert tracker.tail_mean(0.4) == pytest.approx(-0.0225)
    risk = Risk(norm_by_std=False)
    plain, moved = (risk.advantages(SCORES, 0.4, 1.6, *means) for means in ((0.0, 0.0), (0.54, -0.0225)))
    wanted = (1.5 * 0.0225 / 0.2 - 0.54 / 0.6) / 2.5
    assert (moved - plain).tolist() == pytest.approx([wanted] * 3, abs=1e-5)


def test_the_means_are_of_the_tracked_thresholds_in_a_mixture_too() -> None:
    options = {"carry_tracker": True, "mean_baseline": True, "thresholds": "mix"}
    credit = make("riskpo", options).advantage
    credit.tracker.load_state_dict({"quantiles": [2 * level for level in LEVELS]})  # type: ignore[attr-defined]
    assert credit.tracked_means((0.4, 1.6)) == pytest.approx((0.54, -0.0225))  # type: ignore[attr-defined]
    assert credit.tracked_means(None) == (0.0, 0.0)  # type: ignore[attr-defined]
