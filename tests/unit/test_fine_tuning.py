"""SFT, then RL as one run: its settings, its identity, what begins afresh, and a kill in either phase."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config.schema import to_dict
from harness.run import execute as runs
from harness.run.checkpoints import last_checkpoint
from harness.run.compose import compose, from_dict
from harness.run.fine_tuning import phase_of
from harness.run.identity import identity, identity_parts
from harness.util.errors import UserError
from tests.helpers.execution import Killed, configured, numbers_of
from tests.helpers.tiny import SMALL, tiny_folder, tiny_trainer

SFT_STEPS, STEPS = 4, 4


def overrides(runs_dir: Path, *more: str) -> list[str]:
    changed = ("train.steps", "eval.frontier_every", "probe.every")
    base = [s for s in SMALL if s.partition("=")[0] not in changed]
    return [
        "method=kl-penalty@loss", f"model.path={tiny_folder()}", *base, f"train.steps={STEPS}",
        "sft.method=curiosft", "sft.settings=[sync_every:2]", f"sft.steps={SFT_STEPS}", "sft.batch=8",
        "sft.minibatches=2", "sft.lr=1e-2", "train.checkpoint_every=1", "train.keep_checkpoints=20",
        "eval.frontier_every=3", "probe.every=3", "eval.splits=[test_id]", f"runs_dir={runs_dir}", *more,
    ]  # fmt: skip


# --- settings ---------------------------------------------------------------------------------------------


def test_without_steps_nothing_of_it_is_in_an_identity() -> None:
    parts = identity_parts(compose({"method": "grpo"}))
    assert "sft" not in parts and "demonstrations" not in parts
    assert "sft" not in parts["config"] and "demonstrations" not in parts["config"]["data"]


@pytest.mark.parametrize(
    "change",
    [
        {"sft.steps": 6}, {"sft.batch": 64}, {"sft.lr": 1e-3}, {"sft.method": "psft"}, {"sft.epochs": 2},
        {"sft.settings": ["aggregation:seq-mean-token-mean"]}, {"sft.warmup_steps": 0},
    ],
)  # fmt: skip
def test_its_settings_are_part_of_the_identity(change: dict[str, Any]) -> None:
    base = {"method": "grpo", "sft.steps": 5}
    run = compose(base)
    assert identity(run) != identity(compose({"method": "grpo"}))
    assert identity(run) == identity(compose({**base, "sft.settings": ["aggregation=token-mean"]}))
    assert identity(compose(base | change)) != identity(run)
    assert identity(from_dict(json.loads(json.dumps(to_dict(compose(base | change)))))) == identity(
        compose(base | change)
    )


def test_a_file_counts_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    line = json.dumps({"prompt": "1+1=", "response": "2"}) + "\n"
    for name, text in (("a", line), ("b", line), ("c", line * 2)):
        (tmp_path / name).write_text(text)
    a, b, c, none = (
        identity(compose({"method": "sft"} | ({"data.demonstrations": str(tmp_path / name)} if name else {})))
        for name in ("a", "b", "c", "")
    )
    assert a == b and len({a, c, none}) == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sft.lr": 1e-3}, "sft.lr changes nothing without steps on demonstrations"),
        ({"sft.settings": ["alpha:1"]}, "sft.settings changes nothing"),
        ({"data.demonstrations": "x"}, "method 'grpo' reads no demonstrations"),
        ({"sft.steps": 2, "sft.method": "dapo"}, "sft.method=dapo trains on rollouts"),
        ({"sft.steps": 2, "sft.method": "psfx"}, "psft"),
        ({"method": "psft", "sft.steps": 2}, "method 'psft' trains on demonstrations itself"),
        ({"sft.steps": 2, "sft.batch": 2}, "sft.minibatches=4 exceeds the 2 demonstrations"),
        ({"sft.steps": 2, "sft.settings": ["alpha:1"]}, "hyper-parameter 'alpha'"),
        ({"sft.steps": 2, "sft.settings": ["alpha"]}, "is not a setting; write e.g."),
        ({"sft.steps": 2, "sft.method": "curiosft", "sft.settings": ["alpha:-1"]}, "alpha=-1.0 is out of"),
        ({"sft.steps": 2, "sft.method": "curiosft", "sft.settings": ["alpha:x"]}, "alpha=x is not a number"),
        ({"sft.steps": 2, "sft.method": "curiosft", "sft.settings": ["tau_min:2"]}, "lower method.tau_min"),
        ({"sft.steps": 2, "sft.method": "psft", "sft.minibatches": 1}, "raise train.minibatches"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        compose({"method": "grpo"} | settings)


def test_the_phase_is_a_run_without_rollouts() -> None:
    run = compose(
        {
            "method": "dapo", "sft.steps": 3, "sft.batch": 32, "train.token_budget": 10_000, "rollout.lag": 1,
            "rollout.temperature": 0.8, "train.steps": 50, "sft.lr": 3e-5, "sft.settings": [],
        }
    )  # fmt: skip
    phase = phase_of(run)
    assert (phase.method_name, phase.train.steps, phase.train.lr, phase.train.token_budget) == (
        "sft", 3, 3e-5, None,
    )  # fmt: skip
    assert phase.rollout.prompts_per_step * phase.rollout.group_size == 32
    assert phase.rollout.temperature == 1 and not phase.rollout.lag and phase.sft.steps == 0
    assert run.last_step == 53 and phase.last_step == 3


# --- one run ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run: CurioSFT, then GRPO with a KL to its reference."""
    arguments = overrides(tmp_path_factory.mktemp("whole"))
    Killed(arguments).finish()
    return runs.run_folder(configured(arguments))


def rows(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def checkpoint(folder: Path, step: int) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / "checkpoints" / f"step-{step:06d}.pt", weights_only=True)
    return state


def test_both_phases_stand_in_one_log_and_one_record(whole: Path) -> None:
    steps = rows(whole)
    assert [s["step"] for s in steps] == list(range(SFT_STEPS + STEPS + 1))
    tuned = [s["step"] for s in steps if "demonstration_nll" in s]
    assert tuned == list(range(1, SFT_STEPS + 1))
    assert [s["step"] for s in steps if s["generated_tokens"] == 0] == [0, *tuned]
    assert all("accuracy" in s for s in steps[SFT_STEPS + 1 :])
    assert [s["step"] for s in steps if "probe_entropy" in s] == [0, 3, 4, 6, 8]
    result = runs.result(whole)
    assert [f.step for f in result.frontier] == [0, 3, 4, 6, 8]
    assert result.budget.steps == SFT_STEPS + STEPS
    assert result.budget.updates == SFT_STEPS * 2 + STEPS * 4
    assert result.budget.train_tokens > sum(s["length"] * 8 for s in steps if "demonstration_nll" in s)
    assert result.trace["step"] == list(range(SFT_STEPS + 1, SFT_STEPS + STEPS + 1))
    assert result.sft["steps"] == SFT_STEPS and result.sft["hyperparameters"]["sync_every"] == 2
    assert runs.status(whole)["steps"] == SFT_STEPS + STEPS


def test_the_teacher_is_in_the_checkpoint_of_its_phase_and_the_fine_tuned_model_in_the_next(
    whole: Path,
) -> None:
    assert "reference" not in checkpoint(whole, 1)
    first, last = checkpoint(whole, 3)["reference"], checkpoint(whole, SFT_STEPS)
    assert any(not torch.equal(last["reference"][k], v) for k, v in first.items())  # it followed again
    kept = checkpoint(whole, SFT_STEPS + 1)["reference"]
    assert all(torch.equal(kept[name], value) for name, value in last["weights"].items())
    assert any(not torch.equal(kept[name], value) for name, value in last["reference"].items())


def test_optimiser_warm_up_and_schedules_begin_afresh(whole: Path) -> None:
    before, after = checkpoint(whole, SFT_STEPS), checkpoint(whole, SFT_STEPS + 1)
    taken = [float(slot["step"]) for slot in before["optimizer"]["state"].values()]
    assert set(taken) == {2.0 * SFT_STEPS}
    assert {float(slot["step"]) for slot in after["optimizer"]["state"].values()} == {4.0}
    assert after["counters"]["updates_before"] == 2 * SFT_STEPS
    assert after["counters"]["updates"] == 2 * SFT_STEPS + 4
    trainer = tiny_trainer("sft.steps=3", "train.steps=4", "train.warmup_steps=8", "train.lr=0.08")
    trainer.begin_at(trainer.policy.weights(), type(trainer.counters)(step=3, updates=100))
    trainer.step()
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.08 * 4 / 8)
    ctx = trainer.context()
    assert (ctx.step, ctx.total_steps, ctx.fraction, ctx.started) == (1, 4, 0.25, 0.0)
    assert not trainer.finished() and trainer.counters.step == 4


@pytest.mark.parametrize("at", [2, SFT_STEPS, SFT_STEPS + 2])
def test_killed_in_either_phase_and_between_them(whole: Path, tmp_path: Path, at: int) -> None:
    arguments = overrides(tmp_path)
    folder, run = runs.run_folder(configured(arguments)), Killed(arguments)
    assert folder.name == whole.name
    assert run.kill_when(lambda: len(rows_written(folder)) > at)
    assert not (folder / "result.json").exists()
    run.finish()
    own, other = numbers_of(folder), numbers_of(whole)
    assert own.keys() == other.keys()
    assert [name for name in own if own[name] != other[name]] == []


def rows_written(folder: Path) -> list[bytes]:
    path = folder / "metrics.jsonl"
    return path.read_bytes().splitlines() if path.exists() else []


def test_a_lost_checkpoint_of_the_second_phase_goes_back_to_the_first(whole: Path, tmp_path: Path) -> None:
    """All that is left is the last one on demonstrations: the second phase starts from it."""
    arguments = overrides(tmp_path)
    folder = runs.run_folder(configured(arguments))
    shutil.copytree(whole, folder)
    (folder / "result.json").unlink()
    for path in (folder / "checkpoints").glob("step-*.pt"):
        if int(path.stem.partition("-")[2]) > SFT_STEPS:
            path.unlink()
    for path in (folder / "eval").glob("frontier-00000[68]*"):
        path.unlink()
    runs.execute(configured(arguments))
    assert numbers_of(folder) == numbers_of(whole)
    assert last_checkpoint(folder / "checkpoints") is not None


def test_a_finished_training_is_taken_over(whole: Path) -> None:
    arguments = overrides(whole.parent, "eval.splits=[test_hard]")
    folder = runs.execute(configured(arguments))
    assert folder != whole and runs.result(folder).trained_by == whole.name
    assert runs.result(folder).budget.steps == SFT_STEPS + STEPS
