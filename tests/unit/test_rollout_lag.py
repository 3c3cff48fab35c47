"""Rollouts that wait, their correction, and engines as samplers of a training run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.model.policy import load_policy
from harness.rollout.engine_sampler import EngineSampler
from harness.rollout.engines.hf import HfEngine
from harness.rollout.engines.vllm_engine import VllmEngine
from harness.rollout.settings import check_installed, check_stages
from harness.run import execute as runs
from harness.stages.batch import Batch
from harness.stages.defaults import PlainRollout, grpo_stages
from harness.stages.loss import PolicyLoss
from harness.train.off_policy import mismatch_metrics, truncated_weights
from harness.train.trainer import Trainer
from harness.train.update import UpdateLog, backward
from harness.util.errors import UserError
from tests.helpers.execution import Killed, configured, numbers_of
from tests.helpers.tiny import SMALL, make_batch, small_run, tiny_folder, tiny_policy, tiny_trainer

ONE_UPDATE = ("train.minibatches=1", "train.epochs=1", "train.steps=4")


def steps_of(trainer: Trainer, count: int) -> list[dict[str, float]]:
    return [trainer.step() for _ in range(count)]


# --- the lag ----------------------------------------------------------------------------------------------


def test_rollouts_train_k_steps_later_and_none_is_left_over() -> None:
    trainer = tiny_trainer("rollout.lag=2", "train.steps=5")
    metrics = steps_of(trainer, 5)
    assert [m["lag"] for m in metrics] == [0, 1, 2, 2, 2]
    assert trainer.finished() and trainer.state_dict()["components"]["rollout_queue"] == {"waiting": []}
    tokens = [m["generated_tokens"] for m in metrics]
    assert tokens[0] > 2 * (tokens[1] - tokens[0]), "the first step samples for three"
    assert tokens[2] == tokens[3] == tokens[4], "everything was sampled"
    sampled = sum(m["length"] * m["rollouts"] for m in metrics)
    assert tokens[-1] == pytest.approx(sampled), "and everything sampled was trained on"


def test_a_token_budget_ends_sampling_and_what_waits_still_trains() -> None:
    whole = tiny_trainer("rollout.lag=2", "train.token_budget=500", "train.steps=50")
    metrics = []
    while not whole.finished():
        metrics.append(whole.step())
    assert metrics[-1]["generated_tokens"] == metrics[-3]["generated_tokens"] >= 500
    assert len(metrics) < 50
    sampled = sum(m["length"] * m["rollouts"] for m in metrics)
    assert metrics[-1]["generated_tokens"] == pytest.approx(sampled)


def test_with_weights_that_stand_still_a_lag_changes_nothing() -> None:
    """A step's problems, draws and minibatches are its own, whenever it is sampled."""
    still = ("train.lr=1e-30", "train.steps=4")
    plain, late = (
        steps_of(tiny_trainer(*still, *more), 4)
        for more in ((), ("rollout.lag=2", "rollout.correction=none"))
    )
    for ours, theirs in zip(late, plain, strict=True):
        names = set(theirs) - {"generated_tokens"}
        assert {k: ours[k] for k in names} == {k: theirs[k] for k in names}


@pytest.mark.filterwarnings("ignore:step .* the rollouts of engine")
def test_ratios_see_the_lag_and_the_correction_sees_what_they_do_not() -> None:
    """Both readings of the old policy; with one update a step, only the lag can move a ratio from 1."""
    lagged = (*ONE_UPDATE, "rollout.lag=1")
    plain, sampling, update = (
        steps_of(tiny_trainer(*words), 3)[-1]
        for words in (ONE_UPDATE, lagged, (*lagged, "rollout.ratio_to=update"))
    )
    assert plain["ratio_p99"] == pytest.approx(1, abs=1e-4) and "mismatch_kl" not in plain
    assert sampling["ratio_p99"] > 1.001 and sampling["kl"] > 1e-6
    assert sampling["mismatch_kl"] < 1e-8 and sampling["mismatch_p99"] == pytest.approx(1, abs=1e-4)
    assert update["ratio_p99"] == pytest.approx(1, abs=1e-4)
    assert update["mismatch_kl"] > 1e-6 and update["mismatch_p99"] > 1.001


def test_without_a_lag_nothing_is_corrected_or_kept() -> None:
    trainer = tiny_trainer()
    seen: list[Batch] = []
    update = trainer.update
    trainer.update = lambda m, *rest: seen.append(m.batch) or update(m, *rest)  # type: ignore[method-assign,func-returns-value]
    metrics = trainer.step()
    assert seen and all(batch.correction_BT is None for batch in seen)
    assert not [k for k in metrics if k.startswith(("mismatch", "correction", "lag"))]
    assert "rollout_queue" not in trainer.state_dict()["components"]


@pytest.mark.timeout(900)
def test_a_killed_run_goes_on_with_what_waits(tmp_path: Path) -> None:
    changed = ("train.steps", "eval.frontier_every", "probe.every")
    base = [s for s in SMALL if s.partition("=")[0] not in changed]

    def words(runs_dir: Path) -> list[str]:
        return [
            "method=dapo", f"model.path={tiny_folder()}", *base, "train.steps=6", "train.checkpoint_every=2",
            "eval.frontier_every=6", "probe.every=6", "rollout.lag=2", f"runs_dir={runs_dir}",
        ]  # fmt: skip

    whole = runs.execute(configured(words(tmp_path / "whole")), evaluate=False)
    arguments = words(tmp_path / "killed")
    folder, run = runs.run_folder(configured(arguments)), Killed(arguments, evaluate=False)

    def reached() -> bool:
        log = folder / "metrics.jsonl"
        return log.exists() and log.read_bytes().count(b"\n") >= 5  # after the checkpoint at step 4

    assert run.kill_when(reached, timeout_s=600)
    state = torch.load(sorted((folder / "checkpoints").glob("*.pt"))[-1], weights_only=True)
    assert len(state["components"]["rollout_queue"]["waiting"]) == 2
    run.finish(timeout_s=600)
    own, other = numbers_of(folder), numbers_of(whole)
    assert own.keys() == other.keys() and [n for n in own if own[n] != other[n]] == []
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row.get("lag") for row in logged] == [None, 0, 1, 2, 2, 2, 2]


# --- the correction ---------------------------------------------------------------------------------------


def lagging_batch(policy: Any, log_weight: float) -> Batch:
    """Two responses whose rollout log-probs lie ``log_weight`` under the policy's."""
    batch = make_batch(policy, [[5, 6], [7]], [[8, 9, 10], [11, 12]])
    old = policy.stats(batch, PolicyLoss.old_stats)["logp"].detach()
    advantage = torch.where(batch.mask_BT, torch.tensor([[1.0], [-0.5]], dtype=old.dtype), 0.0)
    off = torch.tensor([[log_weight, 0.0, -log_weight], [-2 * log_weight, 3 * log_weight, 0.0]])
    return batch.with_(old={"logp": old}, rollout_logp_BT=old - off, advantage_BT=advantage)


def test_weights_are_ratios_up_to_the_cap() -> None:
    batch = lagging_batch(tiny_policy(), 0.5)
    want = torch.tensor([0.5, 0.0, -0.5, -1.0, 1.5]).exp().clamp(max=2.0)
    assert torch.allclose(truncated_weights(batch, 2.0)[batch.mask_BT], want, atol=1e-5)
    told = mismatch_metrics(batch, 2.0)
    d = torch.tensor([0.5, 0.0, -0.5, -1.0, 1.5], dtype=torch.double)
    assert told["mismatch_kl"] == pytest.approx(float((d.exp() - 1 - d).mean()), rel=1e-4)
    assert told["correction_capped"] == pytest.approx(1 / 5) and told["mismatch_alarm"] == 1
    assert told["mismatch_p50"] == pytest.approx(1, abs=1e-5)
    assert "correction_capped" not in mismatch_metrics(batch, None)


def test_the_correction_multiplies_the_tokens_of_the_policy_loss_only() -> None:
    """Gradients equal those of advantages scaled by the weights, in any split into micro-batches."""
    from harness.stages.base import Minibatch
    from harness.stages.regularise import EntropyBonus

    policy = tiny_policy(torch.float64)
    batch = lagging_batch(policy, 0.4).with_tags(row=torch.arange(2))
    weight = truncated_weights(batch, 1.2).double()
    assert weight.max() == pytest.approx(1.2) and weight[batch.mask_BT].min() < 0.5
    stages = grpo_stages().with_(regularisers=(EntropyBonus(0.3),))

    def gradient(given: Batch, micro_rows: int) -> torch.Tensor:
        policy.model.zero_grad()
        backward(policy, stages, Minibatch(given), UpdateLog(), micro_rows=micro_rows, width=3)
        return torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])

    corrected = gradient(batch.with_(correction_BT=weight), 2)
    scaled = gradient(batch.with_(advantage_BT=batch.advantages() * weight), 2)
    assert torch.allclose(corrected, scaled, atol=1e-9) and not torch.allclose(corrected, gradient(batch, 2))
    assert torch.allclose(corrected, gradient(batch.with_(correction_BT=weight), 1), atol=1e-9)


# --- engines as samplers ----------------------------------------------------------------------------------


class Copy(HfEngine):
    """The built-in sampler behind the engine interface, on weights of its own."""

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__(load_policy(tiny_folder(), temperature=temperature), batch_rows=1000)
        self.calls: list[str] = []

    def sync_weights(self, weights: Any) -> None:
        self.calls.append("sync")
        super().sync_weights(weights)

    def sleep(self) -> bool:
        self.calls.append("sleep")
        return True


def with_engine(engine: Any, *words: str) -> Trainer:
    trainer = tiny_trainer(*words, "train.old_pass=always")
    trainer.rollouts.sampler = EngineSampler(trainer.policy, "copy", "bitwise", lambda: engine)
    return trainer


def test_an_engine_that_follows_gives_the_numbers_of_the_policy_itself() -> None:
    words = ("train.lr=1e-2", "rollout.temperature=0.8")
    engine = Copy(0.8)
    ours, own = with_engine(engine, *words), tiny_trainer(*words, "train.old_pass=always")
    assert steps_of(ours, 3) == steps_of(own, 3)
    assert engine.calls == ["sync", "sleep"] * 3
    for name, value in own.policy.weights().items():
        assert torch.equal(ours.policy.weights()[name], value)


def test_weights_that_do_not_arrive_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Copy()
    trainer = with_engine(engine)
    with torch.no_grad():
        trainer.policy.head.weight[3, 5] += 1e-3
    monkeypatch.setattr(engine, "load_weights", lambda weights: None)
    with pytest.raises(UserError, match="copy does not hold the policy's weights .*rollout.engine=builtin"):
        trainer.step()


def test_after_the_first_proof_stale_weights_raise_the_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = with_engine(Copy(), "train.lr=3e-2", "rollout.lag=1", "rollout.ratio_to=update")
    trainer.step()
    with pytest.warns(UserWarning, match=r"step \d: the rollouts of engine builtin are .* nats a token"):
        metrics = steps_of(trainer, 2)
    assert metrics[0]["mismatch_alarm"] == 1 and metrics[0]["mismatch_kl"] > 0.01


def test_vllm_wakes_loads_and_wakes_in_order() -> None:
    calls: list[Any] = []

    class Core:
        def has_unfinished_requests(self) -> bool:
            return bool(calls and calls[-1] == "busy")

        def wake_up(self, tags: list[str]) -> None:
            calls.append(("wake", *tags))

        def sleep(self, level: int) -> None:
            calls.append(("sleep", level))

    engine = object.__new__(VllmEngine)
    engine._core, engine._dead, engine._sleeps, engine._asleep = Core(), "", True, False
    engine._load = lambda weights: calls.append(("load", *weights))  # type: ignore[method-assign]
    assert engine.sleep() and engine.sleep()
    with pytest.raises(RuntimeError, match="sync_weights wakes it"):
        engine.score([1, 2])
    with pytest.raises(RuntimeError, match="sync_weights wakes it"):
        engine.load_weights([])
    engine.sync_weights(iter(["w"]))  # type: ignore[arg-type]
    assert calls == [("sleep", 2), ("wake", "weights"), ("load", "w"), ("wake", "kv_cache")]
    calls.append("busy")
    with pytest.raises(RuntimeError, match="still being drawn"):
        engine.sync_weights(iter(["w"]))  # type: ignore[arg-type]


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rollout.engine=vlm",), "builtin | vllm"),
        (("rollout.engine_settings=[batch_rows:4]",), "write rollout.engine=vllm"),
        (("rollout.correction=none",), "built-in sampler without a lag is the policy itself"),
        (("rollout.correction_cap=3",), "built-in sampler without a lag is the policy itself"),
        (("rollout.ratio_to=update",), "set rollout.lag"),
        (("rollout.lag=3",), "lower the lag or raise the steps"),
        (("rollout.lag=1", "rollout.correction=none", "rollout.correction_cap=3"), "leave it out"),
        (("rollout.lag=1", "rollout.correction_cap=0.5"), ">= 1"),
        (("rollout.engine=vllm", "rollout.engine_settings=[batch_row:4]"), "did you mean batch_rows"),
        (("rollout.engine=vllm", "rollout.engine_settings=[batch_rows:many]"), "must be a whole number"),
        (("rollout.engine=vllm", "rollout.engine_settings=[batch_rows]"), "is not a setting; write"),
        (("rollout.engine=vllm", "rollout.engine_settings=[gpus:2]"), "start more processes"),
        (("rollout.engine=vllm", "rollout.engine_settings=[device:cpu]"), "follows device"),
        (("rollout.engine=vllm", "rollout.engine_settings=[untested_version:1]"), "true or false"),
        (("rollout.engine=vllm", "rollout.temperature=2.5"), "temperatures from 0.01 to 2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError) as error:
        small_run(*words)
    assert message in str(error.value)


def test_a_method_of_several_temperatures_needs_log_probs_at_them() -> None:
    words = ("rollout.engine=vllm", "method.reinforce_share=0.2")
    small_run(*words, method="aepo")
    with pytest.raises(UserError, match="samples at several temperatures.*rollout.engine=builtin"):
        small_run(*words, "rollout.temperature=0.9", method="aepo")


def test_vllm_that_is_missing_or_untested_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.rollout.engines import vllm

    run = small_run("rollout.engine=vllm")
    monkeypatch.setattr(vllm, "installed_version", lambda: None)
    with pytest.raises(UserError, match="vllm is not installed; pip install .*rollout.engine=builtin"):
        check_installed(run)
    monkeypatch.setattr(vllm, "installed_version", lambda: "0.99.0")
    with pytest.raises(UserError, match="0.99.0 was never tested .*untested_version:true"):
        check_installed(run)
    accepted = "rollout.engine_settings=[untested_version:true,batch_rows:4]"
    check_installed(small_run("rollout.engine=vllm", accepted))
    check_installed(small_run())


def test_processes_that_share_a_cpu_do_not_have_an_engine_each(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.distributed.world import World
    from harness.rollout import engine_sampler as sampling
    from harness.rollout.engines import vllm

    monkeypatch.setattr(vllm, "installed_version", lambda: vllm.TESTED[0])
    run, policy = small_run("rollout.engine=vllm"), tiny_policy()
    assert isinstance(sampling.open_sampler(run, policy), EngineSampler), "not opened yet"
    monkeypatch.setattr(sampling, "world", lambda: World(0, 2))
    with pytest.raises(UserError, match="in 2 processes on CPUs was never tried"):
        sampling.open_sampler(run, policy)


def test_what_a_method_declares_is_checked_against_lag_and_correction() -> None:
    @dataclass(frozen=True)
    class OwnWeights(PolicyLoss):
        corrects_rollouts = True

    @dataclass(frozen=True)
    class Buffered(PlainRollout):
        needs_fresh_rollouts = True

    late = small_run("rollout.lag=1")
    own = grpo_stages().with_(loss=OwnWeights()).of_step()
    with pytest.raises(UserError, match="count twice: write rollout.correction=none"):
        check_stages(late, own)
    check_stages(small_run("rollout.lag=1", "rollout.correction=none"), own)
    check_stages(small_run(), own)
    with pytest.raises(UserError, match="cannot wait; write rollout.lag=0"):
        check_stages(late, grpo_stages().with_(rollout=Buffered()).of_step())


def test_new_settings_leave_the_identity_of_existing_runs() -> None:
    from harness.config.schema import identity_dict

    plain = identity_dict(small_run())["rollout"]
    assert set(plain) == {"prompts_per_step", "group_size", "temperature", "max_response_tokens"}
    late = identity_dict(small_run("rollout.lag=1", "rollout.ratio_to=update"))["rollout"]
    assert late["lag"] == 1 and late["ratio_to"] == "update"
