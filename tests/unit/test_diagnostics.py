"""Diagnostics: any run can log them, they change nothing else, and polarity is what raw logits say it is."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from harness.config.schema import identity_dict
from harness.registry import methods as registry
from harness.run.set_up import stages_of
from harness.stages.base import Diagnostic
from harness.train.trainer import Trainer
from harness.util.errors import UserError
from methods.entropy_polarity import FACTOR, polarity, polarity_terms
from tests.helpers.settings import composed
from tests.helpers.tiny import LetterBenchmark, small_run, tiny_policy

ON = "train.diagnostics=[entropy-polarity]"


def trainer(*overrides: str, method: str = "grpo", dtype: torch.dtype = torch.float32) -> Trainer:
    run = small_run(*overrides, method=method)
    return Trainer(run, tiny_policy(dtype, run.rollout.temperature), LetterBenchmark(), stages_of(run))


def test_terms_by_hand() -> None:
    logits = torch.tensor([[0.8, 0.2], [0.8, 0.2]], dtype=torch.float64).log() + 3.0
    sampled, correction = polarity_terms(logits, torch.tensor([1, 0]))
    assert sampled.tolist() == pytest.approx([0.221807, -0.221807], abs=1e-6)
    assert correction.tolist() == pytest.approx([0.133084, 0.133084], abs=1e-6)
    factor = FACTOR.compute(logits, torch.tensor([1, 0]))
    assert factor.tolist() == pytest.approx([0.354891, -0.088723], abs=1e-6)
    mask = torch.tensor([True, False])
    assert polarity(factor, torch.tensor([-2.0, 1.0]), mask).tolist() == pytest.approx(
        [-0.709782, 0], abs=1e-6
    )


def test_the_factor_is_the_derivative_of_entropy_along_the_update() -> None:
    """By automatic differentiation: dH/dz . (e_a - p)."""
    g = torch.Generator().manual_seed(0)
    logits = (2 * torch.randn(50, 30, generator=g, dtype=torch.float64)).requires_grad_()
    token = torch.randint(30, (50,), generator=g)
    logp = logits.log_softmax(1)
    (slope,) = torch.autograd.grad(-(logp.exp() * logp).sum(), logits)
    direction = torch.nn.functional.one_hot(token, 30) - logits.softmax(1)
    torch.testing.assert_close(FACTOR.compute(logits, token), (slope * direction).sum(1))


@pytest.mark.parametrize("method", ["grpo", "dapo", "bapo@released", "fork-tokens"])
def test_it_is_logged_and_changes_nothing_else(method: str) -> None:
    plain, watched = trainer(method=method), trainer(ON, method=method)
    for _ in range(2):
        without, with_it = plain.step(), watched.step()
        new = {k for k in with_it if k.startswith("polarity/")}
        assert "polarity/mean" in new and "polarity/expanding" in new
        assert {k: v for k, v in with_it.items() if k not in new} == without
        assert 0 <= with_it["polarity/expanding_mass"] <= 1
    for ours, theirs in zip(plain.policy.weights().values(), watched.policy.weights().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_what_is_logged_follows_from_raw_logits_at_the_loss_temperature() -> None:
    made = trainer(ON, "rollout.temperature=0.7", dtype=torch.float64)
    (stage,) = made.stages.diagnostics
    seen: list[Any] = []

    class Spy(Diagnostic):
        old_stats = stage.old_stats

        def __call__(self, batch: Any, ctx: Any) -> Any:
            seen.append(batch)
            return stage(batch, ctx)

    made.stages = dataclasses.replace(made.stages, diagnostics=(Spy(),))
    policy, temperature = made.policy, made.run.rollout.temperature
    before = {k: v.clone() for k, v in policy.weights().items()}
    metrics = made.step()
    policy.load_weights(before)
    values = []
    for row in range(len(batch := seen[0])):
        prompt = batch.prompt_BP[row][batch.prompt_mask_BP[row]]
        response = batch.response_BT[row][batch.mask_BT[row]]
        with torch.no_grad():
            logits = policy.model(torch.cat([prompt, response])[None]).logits[0, len(prompt) - 1 : -1]
        for z, token, advantage in zip(logits / temperature, response, batch.advantages()[row], strict=False):
            p = z.softmax(0)
            h = -(p * p.log()).sum()
            t = -p[token] * (p[token].log() + h) + (p**2 * (p.log() + h)).sum()
            values.append(float(advantage * t))
    expanding = [v > 0 for v in values if v != 0]
    assert metrics["polarity/mean"] == pytest.approx(sum(values) / len(values), rel=1e-6)
    assert metrics["polarity/expanding"] == pytest.approx(sum(expanding) / len(expanding))
    mass = sum(v for v in values if v > 0) / sum(abs(v) for v in values)
    assert metrics["polarity/expanding_mass"] == pytest.approx(mass, rel=1e-6)


def test_runs_without_diagnostics_keep_their_identity() -> None:
    plain, watched = small_run(), small_run(ON)
    assert "diagnostics" not in identity_dict(plain)["train"]
    assert identity_dict(watched)["train"]["diagnostics"] == ["entropy-polarity"]


def test_an_unknown_diagnostic_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="did you mean entropy-polarity"):
        composed("train.diagnostics=[entropy-polarty]")
    assert list(registry.diagnostics()) == ["entropy-polarity", "softmax-radius"]


def test_a_name_is_taken_once() -> None:
    registry.load_diagnostic("entropy-polarity")

    class Other(Diagnostic):
        pass

    with pytest.raises(ValueError, match="registered twice"):
        registry.diagnostic("entropy-polarity")(Other)


def test_the_command_line_tells_about_it(capsys: pytest.CaptureFixture[str]) -> None:
    from harness.cli.methods import list_methods, show_method

    assert list_methods() == 0 and "entropy-polarity" in capsys.readouterr().out
    assert show_method("entropy-polarity") == 0
    shown = capsys.readouterr().out
    assert "train.diagnostics=[entropy-polarity]" in shown and "polarity/expanding_mass" in shown
