"""The old pass that the sampler takes: the same numbers as a pass of its own, and only where they count."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.rollout.sampled import TAG, sampled_with, why_not
from harness.stages.batch import Batch, concat
from harness.stages.requests import Verify
from harness.stages.token_stats import ENTROPY, LOGP, PROMPT_LOGP, LogProb, TokenStat
from harness.train.metrics import copied
from harness.train.trainer import Trainer
from tests.helpers.tiny import small_run, tiny_trainer

STATS: tuple[TokenStat, ...] = (LOGP, ENTROPY, LogProb(scale=2.0))


def rollouts(trainer: Trainer) -> Batch:
    trainer.counters.step += 1
    return trainer.rollouts.run_program(trainer.context())


@pytest.mark.parametrize("words", [(), ("rollout.temperature=0.7",)])
def test_what_the_sampler_takes_is_what_a_pass_gives(words: tuple[str, ...]) -> None:
    trainer = tiny_trainer(*words, dtype=torch.float64)
    trainer.rollouts._old_stats = lambda: STATS
    batch = rollouts(trainer)
    assert sampled_with(batch, STATS, 0)
    for name, value in trainer.policy.scores(batch, STATS, 100).items():
        torch.testing.assert_close(batch.old[name], value, rtol=1e-9, atol=1e-9)


def test_temperatures_of_tokens_and_of_requests_leave_them_at_the_loss_temperature() -> None:
    """AEPO's hot rows are drawn at another temperature; what is taken of them is not."""
    trainer = tiny_trainer("rollout.group_size=8", method="aepo", dtype=torch.float64)
    batch = rollouts(trainer)
    assert len(set(batch.temperature_B.tolist())) > 1 and sampled_with(batch, (LOGP, ENTROPY), 0)
    for name, value in trainer.policy.scores(batch, (LOGP, ENTROPY), 100).items():
        torch.testing.assert_close(batch.old[name], value, rtol=1e-9, atol=1e-9)


def test_a_step_is_the_same_either_way() -> None:
    ways = [tiny_trainer(f"train.old_pass={how}", "train.lr=1e-3") for how in ("auto", "always")]
    for _ in range(3):
        auto, always = (trainer.step() for trainer in ways)
        for name in ("loss", "entropy", "kl", "grad_norm", "ratio_p01", "ratio_p99"):
            assert auto[name] == pytest.approx(always[name], rel=1e-3, abs=1e-5), name
    assert ways[0].clock.seconds["old"] < 0.2 * ways[1].clock.seconds["old"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("train.old_pass=always",), "train.old_pass=always"),
        (("rollout.lag=1", "rollout.ratio_to=update"), "after sampling"),
        (("model.compute_dtype=bfloat16",), "in bfloat16 round differently"),
    ],
)
def test_where_it_would_be_another_number_a_pass_is_taken(words: tuple[str, ...], why: str) -> None:
    assert why in why_not(small_run(*words), (LOGP,))
    trainer = tiny_trainer(*words)
    assert why in trainer.passes_itself and not rollouts(trainer).old
    assert trainer.step()["updates"] > 0


def test_statistics_of_prompts_take_a_pass() -> None:
    assert "prompt_logp" in why_not(small_run(), (LOGP, PROMPT_LOGP))
    assert not why_not(small_run("rollout.lag=1"), (LOGP,))  # ratios to the weights that sampled


def test_older_weights_changed_tokens_and_missing_statistics_do_not_count() -> None:
    batch = rollouts(tiny_trainer())
    assert sampled_with(batch, (LOGP, ENTROPY), 0) and not sampled_with(batch, (LOGP, ENTROPY), 1)
    assert not sampled_with(batch, STATS, 0)
    other = batch.rollout_logp_BT.clone()
    other[0, 0] -= 0.1
    assert not sampled_with(batch.with_(rollout_logp_BT=other), (LOGP,), 0)
    replayed = batch.with_tags(**{TAG: torch.zeros(len(batch))})
    assert not sampled_with(concat([batch, replayed]), (LOGP,), 0)
    assert not concat([batch, batch.with_(old={})]).old


def test_a_program_that_mixes_in_other_rollouts_gets_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = tiny_trainer()
    kept: list[Batch] = []
    run = type(trainer.stages.rollout).run

    def mixed(self: Any, ctx: Any) -> Any:
        program = run(self, ctx)
        problems = yield program.send(None)
        drawn = yield program.send(problems)
        kept.append(drawn)
        return (yield Verify(concat([drawn, kept[0]])))

    monkeypatch.setattr(type(trainer.stages.rollout), "run", mixed)
    first, second = trainer.step(), trainer.step()
    assert trainer.clock.seconds["old"] > 0 and first["rollouts"] == second["rollouts"]
    assert second["rollout_mismatch"] > 1e-4, "the old rows' log-probs are of today's policy"


def test_copies_and_padding_are_counted() -> None:
    whole = tiny_trainer("train.minibatches=2", "train.epochs=2").step()
    assert whole["copied_tokens"] < 0.1  # two groups may have the same prompt
    cut = tiny_trainer("train.minibatches=2", "train.epochs=2", "train.micro_batch_rows=1").step()
    assert cut["copied_tokens"] > 0.1 and cut["loss"] == pytest.approx(whole["loss"], abs=1e-5)
    assert copied([], 0) == 0.0
