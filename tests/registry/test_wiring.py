"""Every method's update equals an independent plain reading of it, from raw logits: which policy's entropy,
which temperature, which mask, which rows, which log-prob."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from inspect import signature
from typing import Any

import pytest
import torch
from pipeline import make_step, plan_of, rows_of, update
from recorder import Step, record

from harness.model.policy import Policy
from harness.registry import methods as registry
from harness.registry.cards import read_card
from harness.stages.token_stats import ENTROPY, LOGP
from harness.train import trainer as trainer_module
from harness.train.trainer import Trainer
from tests.helpers.tiny import tiny_trainer

#: The synthetic step's; the trainer sets its own share of the run when a step begins.
PHASE: dict[str, Any] = {"u": 0.2, "h_init": None, "raising": False}

#: (method, hyper-parameters, state of its components by name)
SETTINGS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("grpo", {}, {}),
    ("grpo", {"dual_clip": 1.2, "eps_high": 0.28, "kl_coef": 0.04}, {}),
    ("entropy-bonus", {"entropy_coef": 0.01}, {}),
    ("entropy-bonus", {"entropy_coef": 0.0, "kl_coef": 0.04}, {}),
    ("entropy-bonus", {"kl_in_reward_coef": 0.05}, {}),
    ("entropy-bonus", {"entropy_adaptive": True}, {"adaptive_entropy": {"coef": 0.1, "last_entropy": 0.1}}),
    ("entropy-bonus", {"entropy_adaptive": True}, {"adaptive_entropy": {"coef": 0.1, "last_entropy": 0.9}}),
    ("dapo", {}, {}),
    ("dapo", {"overlong_fraction": 0.5, "overlong_factor": 2.0, "dual_clip": 1.2}, {}),
    ("bapo@released", {}, {}),
    ("bapo@released", {"target": 4.0, "high_max": 1.6}, {}),
    ("bapo@paper", {}, {}),
    ("bapo@paper", {"target": 0.9, "high_max": 1.5}, {}),
    ("steer", {}, {}),
    ("steer", {"mode": "linear", "w_min": 0.8}, {}),
    ("etr", {}, {}),
    ("etr", {"macro": "explicit", "eps_0": 0.1}, {}),
    ("aepo", {"reinforce_share": 0.2}, {"aepo": {"h": 0.3}}),
    ("aepo", {"reinforce_share": 0.2}, {"aepo": {"h": 0.8}}),
    ("entrocraft@released", {}, {}),
    ("entrocraft@released", {"hi_start": 9.0, "hi_end": 9.0, "lo_start": 8.0, "lo_end": 8.0}, {}),
    ("entrocraft@released", {"hi_start": 1.6, "hi_end": 0.1, "lo_end": 0.05, "schedule": "cosine"}, {}),
    ("entrocraft@paper", {}, {}),
    ("entrocraft@paper", {"hi_start": 9.0, "hi_end": 9.0, "lo_start": 8.0, "lo_end": 8.0}, {}),
    ("entrocraft@paper", {"hi_start": 9.0, "hi_end": 9.0}, {}),
    ("clip-cov", {"w_low": 0.2, "share": 0.1}, {}),
    ("clip-cov", {"w_low": 0.1, "share": 0.05, "eps_low": 0.2, "eps_high": 0.2}, {}),
    ("kl-cov", {}, {}),
    ("kl-cov", {"share": 0.2, "beta": 3.0}, {}),
    ("fork-tokens", {"rho": 0.25}, {}),  # 0.2 cuts among equal entropies in the recorded step
    ("fork-tokens", {"rho": 0.5, "dual_clip": 1.2, "overlong_fraction": 0.5}, {}),
    ("fork-tokens", {"rho": 0.4, "rule": "quantile", "divisor": "all"}, {}),
    ("progrpo", {}, {}),
    ("progrpo", {"alpha": 2.0, "low_fraction": 0.5}, {}),
    ("gspo", {}, {}),
    ("gspo", {"eps_low": 0.05, "eps_high": 0.02}, {}),
    ("cispo", {}, {}),
    ("cispo", {"cap": 1.05, "floor": 0.9}, {}),
    ("drgrpo", {}, {}),
    ("drgrpo", {"eps_low": 0.1, "eps_high": 0.28, "kl_coef": 0.04}, {}),
    ("clip-low-high", {}, {}),
    ("clip-low-high", {"eps_low": None, "eps_high": 0.05}, {}),
    ("dispo", {}, {}),
    ("dispo", {"eps_low_pos": 0.02, "eps_high_pos": 0.03, "eps_low_neg": 0.05, "eps_high_neg": 0.01}, {}),
    ("minpro", {}, {}),
    ("vcpo@released", {}, {}),
    ("vcpo@released", {"by_length": True, "use_truncated": True, "threshold": 1.05}, {}),
    ("vcpo@paper", {"norm_by_std": False}, {}),
    ("prorl", {}, {}),
    ("prorl", {"dual_clip": 1.2, "kl_coef": 0.5, "eps_high": 0.1}, {}),
    ("sspo", {}, {}),
    ("sspo", {"delimiters": "eao", "eps_low": 0.4, "eps_high": 0.6}, {}),
    ("sspo", {"eps_low": 0.01, "eps_high": 0.02, "aggregation": "token-mean"}, {}),
    ("kl-penalty@loss", {}, {}),
    ("kl-penalty@loss", {"estimator": "k2", "aggregation": "token-mean", "coef": 0.5}, {}),
    ("kl-penalty@loss", {"estimator": "k3+", "coef": 0.5}, {}),
    ("kl-penalty@reward", {}, {}),
    ("kl-penalty@reward", {"estimator": "k2", "eps_high": 0.1}, {}),
    ("kl-penalty@reward", {"estimator": "k3", "coef": 0.5}, {}),
    ("reinforce-family@plain", {}, {}),
    ("reinforce-family@plain", {"whiten": "biased", "gamma": 0.9, "kl_coef": 0.1, "kl_estimator": "k3"}, {}),
    ("reinforce-family@plusplus", {"kl_coef": 0.1, "aggregation": "seq-mean-token-mean"}, {}),
    ("reinforce-family@plusplus-baseline", {}, {}),
    ("reinforce-family@rloo", {"dual_clip": 1.2, "eps_high": 0.1}, {}),
    ("reinforce-family@rloo", {"kl_coef": 0.1, "kl_after": True}, {}),
    ("reinforce-family@rloo-trl", {}, {}),
    ("reinforce-family@rloo-trl", {"normalise": True, "eps_low": 0.02, "eps_high": 0.03}, {}),
    ("minpro", {"seeded": True, "floor": 0.97, "cap": 1.02}, {}),
    ("flexible-entropy@id", {}, {"flexible": PHASE}),
    ("flexible-entropy@id", {"split": 0.05, "alpha_low": -0.25}, {"flexible": PHASE}),
    ("flexible-entropy@did", {"beta_high": 0.3}, {"flexible": PHASE}),
    ("flexible-entropy@did", {"split": 0.05}, {"flexible": PHASE}),
    ("flexible-entropy@od", {}, {"flexible": PHASE | {"h_init": 0.1}}),
    ("flexible-entropy@od", {}, {"flexible": PHASE | {"h_init": 100.0, "raising": True}}),
    ("dcpo", {}, {"dcpo": {"h": 0.45}}),
    ("dcpo", {"gap_cap": 0.5, "t_low": 0.7}, {"dcpo": {"h": 0.8}}),
    ("entropy-discriminator-clip@b", {"mu": 0.7}, {}),
    ("entropy-discriminator-clip@v", {"mu": 0.7}, {}),
    ("entropy-discriminator-clip@v", {"mu": 0.3, "max_fraction": 0.1}, {}),
    ("entropy-discriminator-clip@v", {"mu": 0.5, "max_fraction": 1.0}, {}),
    ("gtpo@released", {"tau": 9.0}, {}),
    ("gtpo@released", {"tau": 3.0, "gamma": 0.3, "w": 3.0}, {}),
    ("gtpo@paper", {}, {"gtpo": {"first_entropy": 1.0}}),
    ("gtpo@paper", {"tau": 1.4}, {"gtpo": {"first_entropy": 1.2}}),
    ("hapo@released", {}, {}),
    ("hapo@released", {"rho": 0.5, "beta": 0.5, "dual_clip": 1.02}, {}),
    ("hapo@paper", {}, {}),
    ("hapo@paper", {"rho": 0.5, "alpha": 0.5, "eps_low": 0.05, "eps_high": 0.05}, {}),
    ("entropy-polarity@inferred", {}, {"polarity": {"reference": 1.0, "average": 0.8}}),
    ("entropy-polarity@inferred", {"limit": 0.3}, {"polarity": {"reference": 1.0, "average": 3.0}}),
    ("era@released", {"w_low": 2.5, "k": 3.0, "top_k": 4}, {}),
    ("era@released", {"w_low": 0.0, "w_high": 0.1, "top_k": None, "eps_high": 0.01}, {}),
    ("era@paper", {"w_low": 1.7, "w_high": 1.9}, {}),
    ("era@paper", {"w_low": 2.6, "w_high": 2.8, "k": 3.0, "dual_clip": 1.01}, {}),
]


def test_every_published_method_has_a_reading() -> None:
    """A method of one's own (fidelity ``own``) has no sheet that could be read independently."""
    published = {name for name, entry in registry.entries().items() if read_card(entry).fidelity != "own"}
    assert {name for name, _, _ in SETTINGS} == published


def options_of(reading: Any, variant: str) -> dict[str, Any]:
    """Some readings are told by an argument that the paper's form is meant, the others by ``x.variant``."""
    return {"paper": True} if variant == "paper" and "paper" in signature(reading.loss).parameters else {}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("name", "values", "state"), SETTINGS)
def test_update_equals_plain_reading(name: str, values: dict, state: dict, seed: int) -> None:
    method = registry.load(name)(**values)
    hp, step = method.hyperparameters(), make_step(seed)
    slug, _, variant = name.partition("@")
    reading = importlib.import_module(f"plain.{slug.replace('-', '_')}")
    option = options_of(reading, variant)

    def stages() -> Any:
        made = method.stages()
        for key, values in state.items():
            made.components[key].load_state_dict(values)
        return made

    flat = {k: v for values in state.values() for k, v in values.items()}
    plan = plan_of(stages(), step)
    first = replace(step.recorded(**flat), variant=variant)
    trained = reading.trained(first, hp, **(option if slug == "entrocraft" else {}))
    assert sorted(rows_of(plan)) == sorted(trained)
    assert len(plan) == 2
    for minibatch in plan:
        x = replace(step.recorded(**flat), variant=variant)
        expected = reading.loss(x, hp, rows_of([minibatch]), **option)
        (grad,) = torch.autograd.grad(expected, x.logits)
        loss, ours = update(stages(), step, minibatch)
        assert math.isclose(loss, float(expected.detach()), rel_tol=1e-5, abs_tol=1e-7)
        torch.testing.assert_close(ours, grad, rtol=1e-5, atol=1e-8)
        assert float(grad.abs().max()) > 0


# --- one recorded step of the real trainer ----------------------------------------------------------------

#: Four groups of four at a temperature that is not 1, split so that no minibatch is one forward pass.
RECORDED = ("rollout.temperature=0.9", "train.micro_batch_rows=3", "train.lr=3e-3", "train.steps=10")


def recorded_step(name: str, values: dict[str, Any], state: dict[str, Any]) -> Step:
    """The second step of a run: the optimiser has moments, and the policy has left the reference."""
    own = [f"method.{k}={'null' if v is None else v}" for k, v in values.items()]
    trainer = tiny_trainer(*RECORDED, *own, method=name, dtype=torch.float64)
    trainer.step()
    return record(trainer, state)


def check_recorded(step: Step, name: str, hp: dict[str, Any]) -> None:
    """Rows, losses, gradients and weights of ``step`` against the plain reading.

    Raises:
        AssertionError: they differ.
    """
    slug, _, variant = name.partition("@")
    reading = importlib.import_module(f"plain.{slug.replace('-', '_')}")
    option = options_of(reading, variant)
    per_pass = len(step.updates) // 2  # two epochs
    first = replace(step.recorded(step.updates[0])[0], variant=variant)
    expected_rows = sorted(reading.trained(first, hp, **(option if slug == "entrocraft" else {})))
    for start in (0, per_pass):
        rows = [row for u in step.updates[start : start + per_pass] for row in u.rows]
        assert sorted(rows) == expected_rows
    train = step.trainer.run.train
    for number, done in enumerate(step.updates):
        x, model = step.recorded(done)
        x = replace(x, variant=variant)
        expected = reading.loss(x, hp, done.rows, **option)
        expected = expected + 0.0 * x.logits.sum()  # every row of an update may be clipped
        parameters = dict(model.named_parameters())
        grads = torch.autograd.grad(expected, list(parameters.values()), allow_unused=True)
        assert math.isclose(done.loss, float(expected.detach()), rel_tol=1e-6, abs_tol=1e-9)
        for key, grad in zip(parameters, grads, strict=True):
            want = torch.zeros_like(parameters[key]) if grad is None else grad
            torch.testing.assert_close(done.gradient[key], want, rtol=1e-5, atol=1e-7)
            parameters[key].grad = want
        if number == 0:  # AdamW by the book, from the optimiser's state before the step
            optimizer = torch.optim.AdamW(
                parameters.values(), lr=train.lr, betas=(train.beta1, train.beta2), weight_decay=0.0
            )
            optimizer.load_state_dict(step.optimizer)
            optimizer.param_groups[0].update(lr=train.lr, fused=None)
            torch.nn.utils.clip_grad_norm_(parameters.values(), train.max_grad_norm)
            optimizer.step()
            for key, weight in model.state_dict().items():
                torch.testing.assert_close(done.after[key], weight, rtol=1e-5, atol=1e-6)
    for before, after in zip(step.updates, step.updates[1:], strict=False):
        for key, weight in after.model.state_dict().items():
            assert torch.equal(before.after[key], weight)  # nothing else touches the weights


@pytest.mark.parametrize(("name", "values", "state"), SETTINGS)
def test_a_recorded_step_equals_plain_reading(name: str, values: dict, state: dict) -> None:
    step = recorded_step(name, values, state)
    assert len(set(step.batch.correct_B.tolist())) == 2
    apart = step.metrics["ratio_p99"] > 1.001 > 0.999 > step.metrics["ratio_p01"]
    assert apart or step.metrics["kl"] > 1e-6  # without a ratio in its loss a method logs 1
    check_recorded(step, name, step.trainer.run.method.hyperparameters())


def old_pass_at_temperature_one(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = Policy.scores
    monkeypatch.setattr(
        Policy, "scores", lambda self, *a: scores(Policy(self.model, self.tokenizer, 1.0), *a)
    )


def old_pass_of_the_current_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the old log-probs were taken anew before every optimiser step."""
    update = Trainer.update

    def fresh(self: Trainer, minibatch: Any, log: Any, ctx: Any) -> Any:
        old = self.policy.scores(minibatch.batch, tuple([LOGP, ENTROPY]), 100)
        return update(self, replace(minibatch, batch=minibatch.batch.with_(old=old)), log, ctx)

    monkeypatch.setattr(Trainer, "update", fresh)


def last_token_without_advantage(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the last token of every response did not train."""
    spread = trainer_module._over_tokens
    monkeypatch.setattr(
        trainer_module, "_over_tokens", lambda value, mask: spread(value, mask) * mask.roll(-1, 1)
    )


@pytest.mark.parametrize(
    "mistake", [old_pass_at_temperature_one, old_pass_of_the_current_policy, last_token_without_advantage]
)
def test_a_mistake_in_the_trainer_is_noticed(mistake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake(monkeypatch)
    step = recorded_step("grpo", {}, {})
    with pytest.raises(AssertionError):
        check_recorded(step, "grpo", step.trainer.run.method.hyperparameters())
