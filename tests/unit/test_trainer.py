"""The trainer's step: metrics, invariances, stops, controls, components, errors."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.problems.problem import Problem, Verdict
from harness.run.set_up import open_run
from harness.stages.base import (
    Advantage,
    Component,
    GroupFilter,
    Out,
    Reward,
    RolloutProgram,
    Selection,
    Signals,
    StepContext,
)
from harness.stages.batch import Batch
from harness.stages.defaults import PlainRollout, grpo_stages
from harness.stages.requests import Draw, Generate, Program, Prompt, Score, Verify
from harness.stages.token_stats import ENTROPY, LOGP
from harness.train.trainer import Trainer
from harness.util.errors import UserError
from tests.helpers.settings import composed
from tests.helpers.tiny import LetterBenchmark, tiny_trainer

#: What every training step logs.
METRICS = {
    "accuracy", "reward", "entropy", "entropy_p10", "entropy_p50", "entropy_p90", "cov_logp_advantage",
    "clip_low", "clip_high", "ratio_p01", "ratio_p50", "ratio_p99", "kl", "length", "truncated", "grad_norm",
    "distinct_answers", "activity", "generated_tokens", "loss", "rollout_mismatch", "updates", "kept_rows",
    "trained_rows", "update_entropy", "unparsed",
}  # fmt: skip


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in trainer.policy.weights().items()}


def same_weights(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_a_chat_model_with_a_bpe_tokenizer_learns() -> None:
    trainer = tiny_trainer("rollout.prompts_per_step=8", "rollout.group_size=8", "train.lr=1e-2")
    accuracy = [trainer.step()["accuracy"] for _ in range(14)]
    assert sum(accuracy[-4:]) / 4 > sum(accuracy[:4]) / 4 + 0.07


def test_metrics_are_there_and_finite() -> None:
    trainer = tiny_trainer()
    first = trainer.step()
    for metrics in (first, trainer.step()):
        assert METRICS <= metrics.keys()
        assert all(isinstance(v, float) and math.isfinite(v) for v in metrics.values()), metrics
    assert set(trainer.clock.seconds) == {"rollout", "old", "reward", "advantage", "update"}
    assert first["updates"] == 4 and first["rollouts"] == 16
    assert 0 < first["accuracy"] < 1
    assert first["rollout_mismatch"] < 1e-4
    assert first["entropy_p10"] < first["entropy_p50"] < first["entropy_p90"]
    assert first["activity"] == 0
    # the first of four minibatches starts at ratio 1, the later ones do not
    assert first["ratio_p01"] < 0.99 and first["ratio_p99"] > 1.01


def test_micro_testbed_steps() -> None:
    run = composed("model.path=micro", "data.benchmark=micro", "rollout.prompts_per_step=4", "train.steps=2")
    policy, benchmark = open_run(run)
    trainer = Trainer(run, policy, benchmark, run.method.stages())
    while not trainer.finished():
        metrics = trainer.step()
        assert METRICS <= metrics.keys() and all(math.isfinite(v) for v in metrics.values())
    assert trainer.counters.step == 2 and trainer.counters.updates == 16
    assert trainer.counters.verifier_calls == 64


def test_the_first_ratio_is_one() -> None:
    metrics = tiny_trainer("train.minibatches=1", "train.epochs=1").step()
    assert metrics["ratio_p01"] == pytest.approx(1, abs=1e-5)
    assert metrics["ratio_p99"] == pytest.approx(1, abs=1e-5)
    assert metrics["clip_low"] == metrics["clip_high"] == 0


@pytest.mark.parametrize("method", ["grpo", "steer"])
def test_micro_batch_rows_do_not_change_a_step(method: str) -> None:
    after, metrics = {}, {}
    for rows in (1, 3, 64):
        trainer = tiny_trainer(f"train.micro_batch_rows={rows}", method=method, dtype=torch.float64)
        metrics[rows] = trainer.step()
        after[rows] = weights(trainer)
    for rows in (1, 3):
        for name, value in after[64].items():
            torch.testing.assert_close(after[rows][name], value, rtol=0, atol=1e-6)
        for name in ("loss", "grad_norm", "entropy", "kl", "activity"):
            assert metrics[rows][name] == pytest.approx(metrics[64][name], abs=1e-5), name


def test_the_same_run_gives_the_same_numbers_and_another_seed_does_not() -> None:
    runs = [tiny_trainer(), tiny_trainer(), tiny_trainer("seed=2")]
    rows = [[trainer.step() for _ in range(2)] for trainer in runs]
    assert rows[0] == rows[1] != rows[2]
    assert same_weights(weights(runs[0]), weights(runs[1]))


def test_the_global_generator_does_not_matter() -> None:
    torch.manual_seed(1)
    first = tiny_trainer().step()
    torch.manual_seed(2)
    assert tiny_trainer().step() == first


def test_token_budget_stops_the_run_and_drives_the_fraction() -> None:
    seen: list[float] = []

    class Watch(Component):
        def begin_step(self, ctx: StepContext) -> None:
            seen.append(ctx.fraction)

    trainer = tiny_trainer(
        "train.token_budget=300", "train.steps=50", stages=grpo_stages().with_(components={"watch": Watch()})
    )
    while not trainer.finished():
        before = trainer.counters.generated_tokens
        trainer.step()
    assert before < 300 <= trainer.counters.generated_tokens
    assert trainer.counters.step < 50
    assert seen[0] == 0 and seen == sorted(seen) and max(seen) < 1


def test_step_limit_stops_the_run() -> None:
    trainer = tiny_trainer("train.steps=2")
    while not trainer.finished():
        trainer.step()
    assert trainer.counters.step == 2


def test_random_reward_ignores_the_verifier() -> None:
    class NeverRight(LetterBenchmark):
        def verify(self, problem: Problem, text: str) -> Verdict:
            return Verdict("wrong", text)

    rows = []
    for benchmark in (NeverRight(), NeverRight(), LetterBenchmark()):
        settings = ("train.random_reward=true", "rollout.group_size=32", "train.lr=1e-9")
        trainer = tiny_trainer(*settings, benchmark=benchmark)
        rows.append([trainer.step()["accuracy"] for _ in range(3)])
    assert rows[0] == rows[1] == rows[2]
    assert len(set(rows[0])) > 1 and abs(sum(rows[0]) / 3 - 0.5) < 0.1


def test_a_problem_drawn_twice_in_a_step_gets_other_samples() -> None:
    class Twice(RolloutProgram):
        def run(self, ctx: StepContext) -> Program:
            (problem,) = yield Draw(1)
            pair = yield Generate([Prompt(problem, 0), Prompt(problem, 1)], ctx.group_size)
            later = yield Generate([Prompt(problem, 2)], ctx.group_size)
            texts.extend([*pair.texts, *later.texts])
            return (yield Verify(pair))

    texts: list[str] = []
    tiny_trainer(stages=grpo_stages().with_(rollout=Twice())).step()
    assert len(texts) == 12 and len(set(texts)) > 9


# --- stages ---------------------------------------------------------------------------------------------


class Nothing(GroupFilter):
    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        return Out(torch.zeros(len(batch), dtype=torch.bool), {"dropped": 1.0})


class NoRows(Selection):
    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        return Out(batch.rows([]))


@pytest.mark.parametrize("change", [{"group_filter": Nothing()}, {"selection": NoRows()}])
def test_a_step_without_rows_skips_the_update(change: dict[str, Any]) -> None:
    trainer = tiny_trainer(stages=grpo_stages().with_(**change))
    before = weights(trainer)
    metrics = trainer.step()
    assert metrics["skipped_update"] == 1 and metrics["accuracy"] > 0
    assert all(math.isfinite(v) for v in metrics.values())
    assert same_weights(before, weights(trainer))
    assert trainer.counters.updates == 0 and trainer.counters.generated_tokens > 0
    trainer.step()


class Recorder(Component):
    """Writes down which hook was called with what, and keeps a count as state."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = int(state["count"])

    def begin_step(self, ctx: StepContext) -> None:
        self.calls.append(f"begin {ctx.step}")

    def after_rollout(self, batch: Batch, ctx: StepContext) -> None:
        assert batch.verdicts is not None and len(batch) == 16
        self.calls.append("rollout")

    def after_update(self, signals: Signals, ctx: StepContext) -> Mapping[str, float]:
        assert signals.entropy > 0 and signals.update_nll > 0 and signals.grad_norm > 0 and signals.rows == 16
        assert signals.metrics["entropy"] == signals.entropy
        self.calls.append("update")
        self.count += 1
        return {"recorder/count": float(self.count)}


def test_component_hooks_and_state() -> None:
    recorder = Recorder()
    trainer = tiny_trainer(stages=grpo_stages().with_(components={"recorder": recorder}))
    trainer.step()
    assert trainer.step()["recorder/count"] == 2
    assert recorder.calls == ["begin 1", "rollout", "update", "begin 2", "rollout", "update"]
    other = Recorder()
    resumed = tiny_trainer(stages=grpo_stages().with_(components={"recorder": other}))
    resumed.load_state_dict(copy.deepcopy(trainer.state_dict()))
    assert other.count == 2
    assert resumed.step() == trainer.step()
    assert same_weights(weights(resumed), weights(trainer))


@dataclass(frozen=True)
class EntropyReward(Reward):
    """Token-level rewards that read the old entropies: the old pass must come first."""

    old_stats = (ENTROPY,)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        return Out(batch.old["entropy"] * batch.mask_BT)


class EntropyFilter(GroupFilter):
    old_stats = (ENTROPY,)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        return Out(batch.old["entropy"].sum(1) > -1)


class ReferenceReward(Reward):
    needs_reference = True

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        assert batch.ref_logp_BT is not None
        return Out(batch.correct_B - 0.1 * (batch.rollout_logp_BT - batch.ref_logp_BT).sum(1))


@pytest.mark.parametrize(
    "change",
    [{"reward": EntropyReward()}, {"group_filter": EntropyFilter()}, {"reward": ReferenceReward()}],
)
def test_the_old_pass_runs_before_the_first_stage_that_reads_it(change: dict[str, Any]) -> None:
    assert METRICS <= tiny_trainer(stages=grpo_stages().with_(**change)).step().keys()


def test_token_rewards_are_summed_for_the_group() -> None:
    class SeesBoth(Advantage):
        def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
            assert batch.reward_BT is not None
            torch.testing.assert_close(batch.rewards(), batch.reward_BT.sum(1))
            return Out(batch.reward_BT)

    tiny_trainer(stages=grpo_stages().with_(reward=EntropyReward(), advantage=SeesBoth())).step()


def test_rollout_requests_may_score_and_leave_verification_to_the_trainer() -> None:
    class Scored(RolloutProgram):
        def run(self, ctx: StepContext) -> Program:
            problems = yield Draw(2)
            batch = yield Generate([Prompt(p, i) for i, p in enumerate(problems)], 3, temperature=0.8)
            scores = yield Score(batch, (LOGP,))
            torch.testing.assert_close(scores["logp"], batch.rollout_logp_BT, atol=1e-4, rtol=0)
            assert (batch.temperature_B == 0.8).all()
            return batch

    trainer = tiny_trainer(stages=grpo_stages().with_(rollout=Scored()))
    assert trainer.step()["rollouts"] == 6
    assert trainer.counters.extra_forward_tokens == trainer.counters.generated_tokens
    assert trainer.counters.verifier_calls == 6


def test_prefixes_belong_to_the_prompt() -> None:
    class Continued(RolloutProgram):
        def run(self, ctx: StepContext) -> Program:
            problems = yield Draw(1)
            first = yield Generate([Prompt(problems[0], 0)], 1, max_tokens=3)
            prefix = tuple(first.response_BT[0][first.mask_BT[0]].tolist())
            rest = yield Generate([Prompt(problems[0], 0, prefix, judged_prefix=True)], 2, max_tokens=2)
            bare = yield Generate([Prompt(problems[0], 0, prefix)], 2, max_tokens=2, sample_offset=2)
            width = first.prompt_BP.shape[1]
            assert rest.prompt_BP[0, width:].tolist() == list(prefix)
            assert all(t.startswith(first.texts[0]) and len(t) > len(first.texts[0]) for t in rest.texts)
            assert not any(t.startswith(first.texts[0]) for t in bare.texts)
            assert bare.sample_B.tolist() == [2, 3]
            return rest

    tiny_trainer(stages=grpo_stages().with_(rollout=Continued())).step()


# --- errors -----------------------------------------------------------------------------------------------


def test_a_diverged_run_says_so() -> None:
    class Infinite(Advantage):
        def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
            return Out(torch.full((len(batch),), float("inf")))

    trainer = tiny_trainer(stages=grpo_stages().with_(advantage=Infinite()))
    before = weights(trainer)
    with pytest.raises(FloatingPointError, match="at step 1: the run diverged; lower train.lr"):
        trainer.step()
    assert same_weights(before, weights(trainer))


def test_an_engine_that_lacks_a_capability_is_refused_before_any_work() -> None:
    class Mixing(PlainRollout):
        engine_needs = frozenset({"telepathy"})

    with pytest.raises(UserError, match="needs telepathy, which the built-in sampler does not offer"):
        tiny_trainer(stages=grpo_stages().with_(rollout=Mixing()))


def test_an_unknown_request_is_refused() -> None:
    class Odd(RolloutProgram):
        def run(self, ctx: StepContext) -> Program:
            yield "please"  # type: ignore[misc]
            raise AssertionError

    with pytest.raises(TypeError, match="may not yield str"):
        tiny_trainer(stages=grpo_stages().with_(rollout=Odd())).step()


def test_learning_rate_warm_up() -> None:
    trainer = tiny_trainer("train.warmup_steps=8", "train.lr=1e-3")
    trainer.step()
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(4 / 8 * 1e-3)
    trainer.step()
    trainer.step()
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)
