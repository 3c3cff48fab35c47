"""Training whose rollouts come from real vLLM: log-probs, weights after every update, death and resume."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.config.schema import RunConfig
from harness.model.policy import load_policy
from harness.rollout import engine_sampler as sampling
from harness.rollout.engines.base import EngineDied, open_engine
from harness.rollout.engines.weights import checksum
from harness.run import execute as runs
from harness.run.export import export
from harness.train.trainer import Trainer
from harness.util.errors import UserError
from tests.helpers.execution import configured
from tests.helpers.tiny import SMALL, LetterBenchmark


@pytest.fixture(scope="module")
def shared(models: Callable[..., Path]) -> Iterator[Any]:
    """The engine as a run opens it."""
    run = configured(words(models))
    opened = sampling._open(run, load_policy(Path(run.model.path)))
    yield opened
    opened.close()


@pytest.fixture
def one_engine(shared: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The runs of a test use the module's engine, and leave it open."""
    monkeypatch.setattr(sampling, "_open", lambda run, policy: shared)
    with monkeypatch.context() as patch:
        patch.setattr(shared, "close", lambda: None)
        yield shared


def words(models: Callable[..., Path], *more: str) -> list[str]:
    given = {word.partition("=")[0] for word in more}
    base = [s for s in SMALL if s.partition("=")[0] not in given]
    return [
        "method=grpo", f"model.path={models(0)}", *base, "rollout.engine=vllm",
        "rollout.engine_settings=[batch_rows:32,kv_cache_gib:0.5,max_positions:128]", *more,
    ]  # fmt: skip


def trainer_of(run: RunConfig) -> Trainer:
    policy = load_policy(Path(run.model.path), temperature=run.rollout.temperature)
    return Trainer(run, policy, LetterBenchmark(), run.method.stages())


@pytest.mark.parametrize("more", [(), ("rollout.lag=1",)])
def test_log_probs_match_the_old_pass_after_every_update(
    one_engine: Any, models: Callable[..., Path], more: tuple[str, ...]
) -> None:
    trainer = trainer_of(configured(words(models, "train.lr=1e-2", *more)))
    sums = set()
    for _ in range(3):
        metrics = trainer.step()
        assert metrics["rollout_mismatch"] < 1e-3
        assert abs(metrics["mismatch_kl"]) < 1e-6 and metrics["mismatch_alarm"] == 0
        assert metrics["mismatch_p01"] == pytest.approx(1, abs=1e-3) == metrics["mismatch_p99"]
        assert metrics["kl"] > 1e-4, "the policy moves"
        with trainer.rollouts.sampler.awake():
            sums.add(one_engine.checksum())
            assert one_engine.checksum() == checksum(trainer.policy.model.parameters())
    assert len(sums) == 3


def test_an_engine_that_stays_behind_is_noticed(
    one_engine: Any, models: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests above would see if an update did not reach the engine."""
    trainer = trainer_of(configured(words(models, "train.lr=1e-2")))
    trainer.step()
    monkeypatch.setattr(trainer.rollouts.sampler, "outdated", lambda: None)
    trainer.step()
    with pytest.warns(UserWarning, match="the rollouts of engine vllm are .* nats a token"):
        metrics = trainer.step()
    assert metrics["mismatch_alarm"] == 1 and metrics["rollout_mismatch"] > 0.01


def test_weights_that_vllm_does_not_take_are_an_error(
    one_engine: Any, models: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(configured(words(models)))
    with trainer.rollouts.sampler.awake():
        pass
    trainer.policy.head.weight.data[3, 5] += 1e-3
    with monkeypatch.context() as patch:
        patch.setattr(one_engine, "_load", lambda weights: None)
        trainer.rollouts.sampler._proven = False
        trainer.rollouts.sampler.outdated()
        with pytest.raises(UserError, match="vllm does not hold the policy's weights"):
            trainer.step()
    trainer.rollouts.sampler.outdated()
    trainer.step()


@pytest.mark.timeout(900)
def test_a_run_whose_engine_dies_says_so_and_goes_on(
    shared: Any, models: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test of the module: its engine dies in the second step, and a resumed run has another one.

    (That an engine whose process is killed tells so is tested in test_vllm_weights.)
    """
    more = (
        "train.checkpoint_every=1",
        "eval.splits=[test_id]",
        "train.steps=3",
        "eval.frontier_every=3",
        "probe.every=3",
    )
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "_open", lambda run, policy: shared)
        patch.setattr(shared, "close", lambda: None)
        whole = runs.execute(
            configured(words(models, *more, f"runs_dir={tmp_path / 'whole'}")), evaluate=False
        )
    run = configured(words(models, *more, f"runs_dir={tmp_path / 'dying'}"))
    folder, step = runs.run_folder(run), Trainer.step

    def dying(self: Trainer) -> dict[str, float]:
        if self.counters.step == 1:

            def fail() -> None:
                raise RuntimeError("no memory left")

            monkeypatch.setattr(shared._core, "step", fail)
        return step(self)

    with monkeypatch.context() as patch, pytest.raises(EngineDied, match="no memory left"):
        patch.setattr(Trainer, "step", dying)
        patch.setattr(sampling, "_open", lambda run, policy: shared)
        runs.execute(run)
    status = runs.status(folder)
    assert (status["state"], status["step"], len(status["error"])) == ("failed", 1, 1)
    assert "the vLLM engine died: no memory left" in status["error"][0]
    with pytest.raises(EngineDied, match="was closed"):
        shared.score([5, 6])
    runs.execute(run)  # with an engine of its own
    ours, theirs = rows_of(folder), rows_of(whole)
    assert [row["step"] for row in ours] == list(range(4)) == [row["step"] for row in theirs]
    for own, other in zip(ours, theirs, strict=True):
        assert own.keys() == other.keys()
        near = {k for k in own if k.startswith(("ratio", "mismatch", "rollout_mismatch", "activity"))}
        assert {k: own[k] for k in near} == pytest.approx({k: other[k] for k in near}, abs=1e-2)
        rest = own.keys() - near
        assert {k: own[k] for k in rest} == pytest.approx({k: other[k] for k in rest}, rel=1e-3, abs=1e-4)
    result = runs.result(folder)
    assert result.determinism == "same-samples"
    assert set(result.evals) == {"test_id"}
    vllm_loads_an_export(folder, tmp_path / "exported")


def vllm_loads_an_export(run: Path, target: Path) -> None:
    export(run, target)
    with_hf, with_vllm = (
        open_engine(name, str(target), max_positions=64, **options)
        for name, options in (
            ("hf", {"device": "cpu"}),
            ("vllm", {"device": "cpu", "batch_rows": 8, "kv_cache_gib": 0.5}),
        )
    )
    try:
        assert with_vllm.score([5, 6, 7, 5]) == pytest.approx(with_hf.score([5, 6, 7, 5]), abs=1e-3)
    finally:
        with_vllm.close()
        with_hf.close()


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
