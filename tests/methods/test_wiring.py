"""Every method's update equals an independent plain reading of it, from raw logits: which policy's entropy,
which temperature, which mask, which rows, which log-prob."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from inspect import signature
from itertools import pairwise
from typing import Any

import pytest
import torch

from harness.model.policy import Policy
from harness.problems.problem import Problem, Verdict
from harness.registry import analyses
from harness.registry import methods as registry
from harness.registry.cards import read_card
from harness.stages.token_stats import ENTROPY, LOGP
from harness.train import trainer as trainer_module
from harness.train.trainer import Trainer
from tests.helpers.tiny import LetterBenchmark, tiny_trainer
from tests.methods.support.cases import CASES, FOLDER, folder_of, module
from tests.methods.support.pipeline import make_step, plan_of, rows_of, update
from tests.methods.support.recorder import Step, record
from tests.methods.support.registered import loaded

SETTINGS = [case for cases in CASES.values() for case in cases.readings]


def test_every_published_method_has_a_reading() -> None:
    """A method of one's own (fidelity ``own``) may do without: no sheet could be read independently."""
    entries = registry.entries()
    published = {name for name, entry in entries.items() if read_card(entry).fidelity != "own"}
    with_reading = {n for n in entries if (FOLDER / folder_of(n) / "reading.py").is_file()}
    assert {name for name, _, _ in SETTINGS} == published | with_reading


def test_every_method_has_its_folder_and_every_folder_its_method() -> None:
    """A folder is named as the file of a method or analysis; its cases name that file's entries alone."""
    stems = {entry.file.stem for entry in registry.entries().values()}
    assert stems <= set(CASES) <= stems | {entry.file.stem for entry in analyses.entries().values()}
    for folder, cases in CASES.items():
        assert cases.entries <= {n for n, e in registry.entries().items() if e.file.stem == folder}


def options_of(reading: Any, variant: str) -> dict[str, Any]:
    """Some readings are told by an argument that the paper's form is meant, the others by ``x.variant``."""
    return {"paper": True} if variant == "paper" and "paper" in signature(reading.loss).parameters else {}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("name", "values", "state"), SETTINGS)
def test_update_equals_plain_reading(name: str, values: dict, state: dict, seed: int) -> None:
    method = loaded(name)(**values)
    hp, step = method.hyperparameters(), make_step(seed)
    slug, _, variant = name.partition("@")
    reading = module(slug, "reading")
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

#: Groups of four at a temperature that is not 1, split so that no minibatch is one forward pass.
RECORDED = ("rollout.temperature=0.9", "train.micro_batch_rows=3", "train.lr=3e-3", "train.steps=10")
#: Entries that see more than three groups and one layer: they read the policy behind a layer, sample a share
#: of the prompts again, or have nothing to leave out, to rank or to compare in fewer responses.
ROOMY = {
    "bupo", "aepo", "ares@released", "data-filters", "entropy-discriminator-clip@b", "fork-tokens",
    "self-play-azr",
}  # fmt: skip


class CoarseAnswers(LetterBenchmark):
    """Answers that rollouts of a prompt share now and then; the verdicts are the same."""

    def verify(self, problem: Problem, text: str) -> Verdict:
        verdict = super().verify(problem, text)
        letters = [c for c in text if c.isalpha()]
        return replace(
            verdict, canonical="early" if letters and letters[0] < "m" else "late" if letters else None
        )


def recorded_trainer(roomy: bool, *own: str, method: str = "grpo") -> Trainer:
    """Of the tiny model with one layer and three groups, or with two and four."""
    prompts, layers = (4, 2) if roomy else (3, 1)
    return tiny_trainer(
        *RECORDED, f"rollout.prompts_per_step={prompts}", *own, method=method, dtype=torch.float64,
        benchmark=CoarseAnswers(), layers=layers,
    )  # fmt: skip


def recorded_step(name: str, values: dict[str, Any], state: dict[str, Any], roomy: bool = False) -> Step:
    """The second step of a run: the optimiser has moments, and the policy has left the reference."""
    own = [f"method.{k}={'null' if v is None else v}" for k, v in values.items()]
    roomy = roomy or name in ROOMY
    trainer = recorded_trainer(roomy, *own, method=name)
    components = trainer.rest_dict()["components"]
    if components.keys() > {"prompts"} or components["prompts"].keys() != {"drawn"}:
        trainer.step()
    else:
        trainer.load_state_dict(copy.deepcopy(after_a_step(roomy)))
    return record(trainer, state)


@cache
def after_a_step(roomy: bool) -> dict[str, Any]:
    """What a step of GRPO leaves: where nothing but weights, moments and counters is left, it need not be
    the method's own."""
    trainer = recorded_trainer(roomy)
    trainer.step()
    return trainer.state_dict()


def rounding(want: torch.Tensor) -> float:
    """Advantages are fp32: where some are hundreds, so is what their rounding leaves of a small sum."""
    return 1e-7 * max(1.0, float(want.abs().max()))


def check_close(
    got: Mapping[str, torch.Tensor], want: Mapping[str, torch.Tensor], rtol: float,
    atol: Callable[[torch.Tensor], float],
) -> None:  # fmt: skip
    """All tensors of ``want`` at once: one comparison costs as much as a small layer."""
    assert {k: got[k].shape for k in want} == {k: v.shape for k, v in want.items()}
    off = [(got[key] - value).abs() - atol(value) - rtol * value.abs() for key, value in want.items()]
    if bool((torch.cat([x.flatten() for x in off]) <= 0).all()):
        return
    for key, value in want.items():
        torch.testing.assert_close(got[key], value, rtol=rtol, atol=atol(value))
    raise AssertionError("not equal, or not a number")


def check_recorded(step: Step, name: str, hp: dict[str, Any]) -> None:
    """Rows, losses, gradients and weights of ``step`` against the plain reading.

    Raises:
        AssertionError: they differ.
    """
    slug, _, variant = name.partition("@")
    reading = module(slug, "reading")
    option = options_of(reading, variant)
    per_pass = len(step.updates) // 2  # two epochs
    before_first = step.recorded(step.updates[0])
    first = replace(before_first[0], variant=variant)
    expected_rows = sorted(reading.trained(first, hp, **(option if slug == "entrocraft" else {})))
    for start in (0, per_pass):
        rows = [row for u in step.updates[start : start + per_pass] for row in u.rows]
        assert sorted(rows) == expected_rows
    train = step.trainer.run.train
    for number, done in enumerate(step.updates):
        x, model = step.recorded(done) if number else before_first
        x = replace(x, variant=variant)
        expected = reading.loss(x, hp, done.rows, **option)
        expected = expected + 0.0 * x.logits.sum()  # every row of an update may be clipped
        parameters = dict(model.named_parameters())
        grads = torch.autograd.grad(expected, list(parameters.values()), allow_unused=True)
        assert math.isclose(done.loss, float(expected.detach()), rel_tol=1e-6, abs_tol=1e-7)
        for parameter, grad in zip(parameters.values(), grads, strict=True):
            parameter.grad = torch.zeros_like(parameter) if grad is None else grad
        wanted = {key: parameter.grad for key, parameter in parameters.items()}
        check_close(done.gradient, wanted, rtol=1e-5, atol=rounding)
        if number == 0:  # AdamW by the book, from the optimiser's state before the step
            optimizer = torch.optim.AdamW(
                parameters.values(), lr=train.lr, betas=(train.beta1, train.beta2), weight_decay=0.0
            )
            optimizer.load_state_dict(step.optimizer)
            rate = reading.rate(x, hp, done.rows) if hasattr(reading, "rate") else 1.0
            optimizer.param_groups[0].update(lr=train.lr * rate, fused=None)
            torch.nn.utils.clip_grad_norm_(parameters.values(), train.max_grad_norm)
            optimizer.step()
            check_close(done.after, model.state_dict(), rtol=1e-5, atol=lambda _: 1e-6)
    for before, after in pairwise(step.updates):
        assert before.after.keys() == after.before.keys()
        for key, weight in after.before.items():
            assert torch.equal(before.after[key], weight)  # nothing else touches the weights


@pytest.mark.parametrize(("name", "values", "state"), SETTINGS)
def test_a_recorded_step_equals_plain_reading(name: str, values: dict, state: dict) -> None:
    step = recorded_step(name, values, state)
    demonstrated = "demonstration" in step.batch.tags  # and nobody judges those
    assert demonstrated or len(set(step.batch.correct_B.tolist())) == 2
    apart = step.metrics["ratio_p99"] > 1.001 > 0.999 > step.metrics["ratio_p01"]
    assert apart or step.metrics["kl"] > 1e-6  # without a ratio in its loss a method logs 1
    check_recorded(step, name, step.trainer.run.method.hyperparameters())


def old_pass_at_temperature_one(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = Policy.scores
    monkeypatch.setattr(trainer_module, "why_not", lambda *_: "a pass of its own is tried here")
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
    step = recorded_step("grpo", {}, {}, roomy=True)
    with pytest.raises(AssertionError):
        check_recorded(step, "grpo", step.trainer.run.method.hyperparameters())
