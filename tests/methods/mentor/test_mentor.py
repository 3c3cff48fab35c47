"""MENTOR's advantages by hand, its mixture and schedule, gamma, and an expert that really helps."""

from __future__ import annotations

import math

import pytest
import torch

from harness.rollout.mixing import mixture
from harness.run.compose import compose
from harness.stages.requests import Generate
from harness.util.errors import UserError
from methods.mentor import EntropyLevel, alpha_at, expert_share, mixed_advantages, quantile
from tests.methods.mentor.speculative import accepted, resampled
from tests.methods.support.golden import make_batch, plain_context
from tests.methods.support.programs import CTX, drive
from tests.methods.support.registered import make
from tests.methods.test_goes_on import micro_trainer


def test_advantages_by_hand() -> None:
    reward = torch.tensor([1.0, 0, 0, 1, 1, 0], dtype=torch.float64)
    expert = torch.arange(6) >= 4
    made = mixed_advantages(reward, torch.zeros(6), expert, alpha_at(60, 120))
    assert made.tolist() == pytest.approx([0.866024, -0.866024, -0.866024, 0.866024, 0.25, 0], abs=1e-6)


def test_mixed_rewards_move_no_mean_and_an_all_right_group_teaches_nothing() -> None:
    expert = torch.tensor([False, False, True, True])
    for mixed in ([0.0, 0.0], [1.0, 1.0]):
        made = mixed_advantages(torch.tensor([1.0, 0.0, *mixed]), torch.zeros(4), expert, 1.0)
        assert made[:2].tolist() == pytest.approx([0.707106, -0.707106], abs=1e-5)
    assert not mixed_advantages(torch.ones(4), torch.zeros(4), expert, 1.0).any()


def test_a_cap_is_reached_before_alpha() -> None:
    reward, expert = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.5]), torch.arange(5) >= 2
    made = mixed_advantages(reward, torch.zeros(5), expert, 0.5, cap=1.0)
    assert made.tolist() == pytest.approx([0, 0, 0.2, 0.2, 0.1])


def test_alpha_falls_to_nothing() -> None:
    assert [alpha_at(s, 120) for s in (60, 120, 121)] == pytest.approx([0.5, 0, 0])
    assert 0.999 < alpha_at(1, 120) < 1 and alpha_at(1, 120, 2.0) == pytest.approx(2 * alpha_at(1, 120))


def test_the_expert_draws_where_the_policy_is_unsure() -> None:
    sure, unsure = torch.tensor([1.0, 0, 0, 0]), torch.full((4,), 0.25)
    share = expert_share(torch.stack([sure, unsure, 0.5 * (sure + unsure)]), gamma=1.0)
    assert share.tolist() == pytest.approx([0.0, 1.0, 1.0], abs=1e-6)
    assert float(expert_share(unsure, gamma=2.0)) == pytest.approx(math.log(4) / 2, abs=1e-6)
    assert float(expert_share(unsure, EntropyLevel(0.95, 1.5).gamma)) < 0.002  # the first step


def test_the_official_way_to_draw_is_the_same_distribution() -> None:
    own, other = torch.rand(
        2, 50, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    ).softmax(-1)
    mixed = mixture(own, other, torch.linspace(0.1, 1, 50, dtype=torch.float64))
    taken = own * accepted(own, mixed)
    drawn = taken + (1 - taken.sum(1, keepdim=True)) * resampled(own, mixed)
    torch.testing.assert_close(drawn, mixed, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("step", "mixed"), [(1, 2), (5, 2), (6, 0)])
def test_mixed_rollouts_are_drawn_while_alpha_is_over_0(step: int, mixed: int) -> None:
    ctx = plain_context(torch.ones(1, 5), step=step, prompts_per_step=4, group_size=3)
    program = make("mentor", {"mixed": 2, "decay_steps": 6}).rollout.run(ctx)
    batch, requests = drive(program, lambda p, s: s == 0)
    asked = [r for r in requests if isinstance(r, Generate)]
    assert [r.mixture is not None for r in asked] == [False, True][: 1 + (mixed > 0)]
    assert len(batch) == 4 * (3 + mixed)
    for tag in ("is_expert", "extra"):
        assert batch.tags[tag].tolist() == [0.0] * 12 + [1.0] * (4 * mixed)
    if mixed:
        weight = asked[1].mixture.weight  # type: ignore[union-attr]
        assert float(weight(torch.full((1, 4), 0.25))) == pytest.approx(math.log(4) / 999, abs=1e-6)
        assert [(p.group, p.stream) for p in asked[1].prompts] == [(g, 1) for g in range(4)]


def test_gamma_is_a_quantile_of_the_own_tokens() -> None:
    entropy = torch.tensor([[0.1, 2.0, 9.0], [1.0, 3.0, 2.5], [50.0, 50.0, 50.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 1, 1]])
    batch = make_batch(mask, old={"entropy": entropy}, tags={"is_expert": torch.tensor([0.0, 0, 1])})
    level = EntropyLevel(0.95, 1.5)
    level.load_state_dict({"gamma": 100.0})
    logged = level.before_update(batch, CTX)
    own = torch.tensor([0.1, 2.0, 1.0, 3.0, 2.5])
    assert level.gamma == logged["mentor/gamma"] == pytest.approx(float(torch.quantile(own, 0.95)))
    assert logged["mentor/expert_share"] == pytest.approx(0.5)
    low = EntropyLevel(0.1, 1.5)
    assert low.before_update(batch, CTX)["mentor/gamma"] == 1.5 == low.state_dict()["gamma"]


@pytest.mark.parametrize("q", [0.0, 0.37, 0.95, 1.0])
def test_a_quantile_is_torchs(q: float) -> None:
    values = torch.rand(1001, generator=torch.Generator().manual_seed(5))
    assert quantile(values, q) == pytest.approx(float(torch.quantile(values, q)), rel=1e-6)


def test_an_expert_helps_and_costs_its_passes() -> None:
    trainer = micro_trainer(
        "mentor", {"gamma_floor": 1e-3, "entropy_quantile": 0.0}, {"rollout.prompts_per_step": 12}
    )
    trainer.stages.components["mentor"].load_state_dict({"gamma": 1e-3})
    metrics = trainer.step()
    assert metrics["mentor/mixed_accuracy"] > metrics["mentor/own_accuracy"] + 0.1
    assert metrics["mentor/expert_share"] > 0.5
    counters, rows = trainer.counters, 12 * (4 + 4)
    assert counters.verifier_calls == metrics["rollouts"] == rows
    assert 0 < counters.extra_forward_tokens < counters.generated_tokens


def test_vllm_cannot_mix() -> None:
    with pytest.raises(UserError, match="needs mixture, which vllm does not offer; use .*=builtin"):
        compose({"method": "mentor", "rollout.engine": "vllm"})
