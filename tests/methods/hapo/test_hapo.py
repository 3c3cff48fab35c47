"""HAPO's score, its fallback to GRPO and its sampling temperatures, on numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from harness.registry import methods as registry
from harness.stages.requests import Generate
from methods.hapo import adaptive_range, sampling_temperature, scale_of, score, token_weighted
from tests.helpers.tiny import tiny_trainer


def test_score_and_range_of_three_tokens() -> None:
    entropy, mask = torch.tensor([[0.1, 1.0, 2.0]]).double(), torch.ones(1, 3)
    for signed, low in ((False, 1.0), (True, -1.0)):
        h = score(entropy, scale_of(entropy, mask, 0.5, signed))
        torch.testing.assert_close(h, torch.tensor([[low, 0.0, 1.0]]).double())
    below, above = adaptive_range(h, 0.2, 0.2, 1.0)
    torch.testing.assert_close(below, torch.tensor([[0.4, 0.2, 0.2]]).double())
    torch.testing.assert_close(above, torch.tensor([[0.2, 0.2, 0.4]]).double())


@pytest.mark.parametrize(
    ("rewards", "lengths", "width", "expected"),
    [
        ([1.0, 0.0], [1, 3], None, [math.sqrt(3), -math.sqrt(1 / 3)]),  # mean 1/4, variance 3/16
        ([1.0, 0.0], [1, 40], None, [math.sqrt(0.5), -math.sqrt(0.5)]),  # 6.3 standard deviations: GRPO
        ([1.0, 0.9], [5, 5], None, [1.0, -1.0]),
        ([1.0, 0.9], [5, 5], 5, [1.0, -1.0]),  # no padding to see
        ([1.0, 0.9], [5, 5], 8, [math.sqrt(0.5), -math.sqrt(0.5)]),  # padding is 19 deviations away
    ],
)
def test_token_weighted_advantage_and_its_fallback(
    rewards: list[float], lengths: list[int], width: int | None, expected: list[float]
) -> None:
    got = token_weighted(torch.tensor(rewards).double(), torch.zeros(2), torch.tensor(lengths), width)
    torch.testing.assert_close(got, torch.tensor(expected).double(), rtol=1e-4, atol=1e-4)


def test_the_second_step_samples_at_temperatures_by_the_first_steps_entropies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = tiny_trainer("method.tau=0.5", method="hapo@paper")
    asked: list[Generate] = []
    generate = trainer.rollouts.generate
    monkeypatch.setattr(trainer.rollouts, "generate", lambda r, ctx: asked.append(r) or generate(r, ctx))
    trainer.step()
    assert asked[0].token_temperature is None
    component = trainer.stages.components["hapo"]
    scale = component.scale  # type: ignore[attr-defined]
    trainer.step()
    rule = asked[1].token_temperature
    assert rule is not None
    flat, sharp = torch.zeros(1, 40), torch.tensor([[20.0] + [0.0] * 39])
    hot, cold = rule(flat), rule(sharp)
    assert float(cold) == pytest.approx(0.5) and 1 < float(hot) <= 1.5
    torch.testing.assert_close(hot, sampling_temperature(flat, scale, 1.0, 0.5))
    assert component.scale != scale  # type: ignore[attr-defined]


def test_an_engine_without_a_temperature_per_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.rollout import sampler
    from harness.util.errors import UserError

    monkeypatch.setattr(sampler, "CAPABILITIES", sampler.CAPABILITIES - {"token_temperature"})
    with pytest.raises(UserError, match="token_temperature"):
        tiny_trainer(method="hapo@released")
    assert registry.load("hapo@released")().tau == 0.05
