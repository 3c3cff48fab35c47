"""A run killed at any moment and started again gives the bits of an uninterrupted one."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from harness.config.fields import NEVER_COUNTS, counts, hp
from harness.records.record import RunResult
from harness.registry import methods as registry
from harness.run import execute as runs
from harness.run import identity as record
from harness.run.best import best_point, frontier_points
from harness.run.checkpoints import last_checkpoint
from harness.train.trainer import Trainer
from harness.util.files import read_json
from tests.helpers.execution import Killed, configured, numbers_of
from tests.helpers.tiny import SMALL, tiny_folder

STEPS = 10


def overrides(runs_dir: Path, *more: str) -> list[str]:
    changed = ("train.steps", "eval.frontier_every", "probe.every")
    base = [s for s in SMALL if s.partition("=")[0] not in changed]
    return [
        "method=grpo", f"model.path={tiny_folder()}", *base, f"train.steps={STEPS}",
        "train.checkpoint_every=2", "eval.frontier_every=5", "probe.every=3",
        "eval.splits=[test_id,test_hard]", f"runs_dir={runs_dir}", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run, made in a process of its own."""
    arguments = overrides(tmp_path_factory.mktemp("whole"))
    Killed(arguments).finish()
    return runs.run_folder(configured(arguments))


def assert_bit_identical(folder: Path, whole: Path) -> None:
    own, other = numbers_of(folder), numbers_of(whole)
    assert own.keys() == other.keys()
    assert [name for name in own if own[name] != other[name]] == []
    assert without_time(runs.result(folder)) == without_time(runs.result(whole))
    assert runs.status(folder)["state"] == "done"


def without_time(result: RunResult) -> RunResult:
    return replace(result, budget=replace(result.budget, wall_s=None))


def lines(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_what_a_finished_run_leaves(whole: Path) -> None:
    steps = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [s["step"] for s in steps] == list(range(STEPS + 1))
    assert [s["step"] for s in steps if "probe_entropy" in s] == [0, 3, 6, 9, 10]
    names = {p.name for p in whole.rglob("*") if p.is_file()}
    assert {"config.json", "environment.json", "result.json", "status.json", "timings.jsonl"} <= names
    assert {"test_id.parquet", "test_hard.parquet", "frontier-000010.json", "step-000010.pt"} <= names
    checkpoints = sorted(p.name for p in (whole / "checkpoints").iterdir())
    assert [n for n in checkpoints if n.startswith("step")] == ["step-000008.pt", "step-000010.pt"]
    best = best_point(frontier_points(whole))["step"]
    assert [n for n in checkpoints if n.startswith("best")] == [f"best-{best:06d}.pt"]
    assert not any(n.endswith(".tmp") or ".part-" in n for n in names)
    result = runs.result(whole)
    assert result.budget.steps == STEPS and result.budget.updates == 4 * STEPS
    assert [f.step for f in result.frontier] == [0, 5, 10]
    assert set(result.evals) == {"test_id", "test_hard"}


def test_killed_at_many_moments_of_training(whole: Path, tmp_path: Path) -> None:
    arguments = overrides(tmp_path)
    folder, run = runs.run_folder(configured(arguments)), Killed(arguments)
    assert folder.name == whole.name  # where a run lies is no part of its identity
    chance, kills = random.Random(5), 0
    for target in (1, 4, 5, 8):
        polls = chance.randrange(1, 12)  # go on a little, to another place within the step

        def reached(target: int = target) -> bool:
            nonlocal polls
            polls -= lines(folder) >= target
            return polls < 0

        kills += run.kill_when(reached)
        assert not (folder / "result.json").exists()
    assert kills == 4
    run.finish()
    assert_bit_identical(folder, whole)
    timed = [json.loads(line)["step"] for line in (folder / "timings.jsonl").read_text().splitlines()]
    assert timed == list(range(1, STEPS + 1))


def test_killed_in_the_evaluation(whole: Path, tmp_path: Path) -> None:
    arguments = overrides(tmp_path)
    folder, run = runs.run_folder(configured(arguments)), Killed(arguments)
    # the training is not under test here: start where it ended
    for name in ("checkpoints", "metrics.jsonl", "timings.jsonl"):
        source = whole / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(source, folder / name)
    (folder / "eval").mkdir()
    for path in (whole / "eval").glob("frontier-*"):
        shutil.copy(path, folder / "eval")
    evaluated = folder / "eval"
    assert run.kill_when(lambda: any(evaluated.glob("test_id.part-*")))
    assert not (folder / "result.json").exists()
    kept = {p.name: p.stat().st_mtime_ns for p in evaluated.glob("test_id*")}
    assert run.kill_when(lambda: any(evaluated.glob("test_hard.part-*")))
    for name, written in kept.items():
        if (evaluated / name).exists():
            assert (evaluated / name).stat().st_mtime_ns == written
    run.finish()
    assert_bit_identical(folder, whole)


def test_a_half_written_checkpoint_is_passed_over(whole: Path, tmp_path: Path) -> None:
    arguments = overrides(tmp_path)
    folder = runs.run_folder(configured(arguments))
    shutil.copytree(whole, folder)
    (folder / "result.json").unlink()
    newest = folder / "checkpoints" / "step-000010.pt"
    newest.write_bytes(newest.read_bytes()[:-200])
    (folder / "checkpoints" / ".step-000010.pt.123.tmp").write_bytes(b"half")
    with open(folder / "metrics.jsonl", "a") as handle:
        handle.write('{"step": 11, "half')
    with pytest.warns(UserWarning, match="step-000010.pt is incomplete"):
        runs.execute(configured(arguments))
    assert_bit_identical(folder, whole)
    assert not list((folder / "checkpoints").glob(".*"))


def test_stopped_between_the_first_two_checkpoints(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = configured(overrides(tmp_path))

    def stop(self: Trainer) -> dict[str, float]:
        raise RuntimeError("stopped in the first step")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(Trainer, "step", stop)
        runs.execute(run)
    assert (runs.run_folder(run) / "checkpoints" / "step-000000.pt").exists()
    assert_bit_identical(runs.execute(run), whole)


def test_no_usable_checkpoint_is_a_fresh_start(tmp_path: Path) -> None:
    (tmp_path / "step-000002.pt").write_bytes(b"")
    (tmp_path / "step-000004.pt").write_bytes(b"PK nothing")
    with pytest.warns(UserWarning):
        assert last_checkpoint(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_returns_at_once(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = configured(overrides(whole.parent))
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*")}

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a finished run was opened again")

    monkeypatch.setattr("harness.run.phases.open_run", never)
    assert runs.execute(run) == whole
    assert runs.execute(run, evaluate=False) == whole
    assert {p: p.stat().st_mtime_ns for p in whole.rglob("*")} == before


def test_a_run_trained_without_evaluation_is_evaluated_later(whole: Path, tmp_path: Path) -> None:
    arguments = overrides(tmp_path)
    folder = runs.execute(configured(arguments), evaluate=False)
    assert runs.result(folder).evals == {}
    trained = (folder / "metrics.jsonl").read_bytes()
    assert runs.execute(configured(arguments)) == folder
    assert (folder / "metrics.jsonl").read_bytes() == trained
    assert_bit_identical(folder, whole)


def test_a_failed_run_says_why_and_can_be_started_again(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.train.trainer import Trainer

    step = Trainer.step

    def failing(self: Trainer) -> dict[str, float]:
        if self.counters.step == 6:
            raise FloatingPointError("the run diverged; lower train.lr")
        return step(self)

    run = configured(overrides(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", failing)
        with pytest.raises(FloatingPointError):
            runs.execute(run)
    status = runs.status(runs.run_folder(run))
    assert status["state"] == "failed"
    assert status["error"] == ["FloatingPointError: the run diverged; lower train.lr"]
    assert_bit_identical(runs.execute(run), whole)


# --- identity ---------------------------------------------------------------------------------------------

METHOD = '''
from dataclasses import dataclass

from harness.stages.method import Method
from harness.config.fields import hp
from harness.stages.base import Stages
from harness.stages.defaults import grpo_stages
from harness.registry.methods import register


@register("own_idea")
@dataclass(frozen=True)
class OwnIdea(Method):
    """GRPO."""

    strength: float = hp(1.0, "nothing", ge=0)

    def stages(self) -> Stages:
        return grpo_stages()
'''


def identity(arguments: list[str]) -> str:
    record._method_hash.cache_clear()
    return runs.identity(configured(arguments))


def test_a_changed_method_file_is_another_run(tmp_path: Path) -> None:
    file = tmp_path / "own_idea.py"
    file.write_text(METHOD)
    arguments = [f"method={file}", *overrides(tmp_path)[1:]]
    first = identity(arguments)
    assert identity(arguments) == first
    assert runs.run_id(configured(arguments)).startswith("own_idea-s1-")
    file.write_text(METHOD + "# another thought\n")
    assert identity(arguments) == first  # a comment means nothing
    file.write_text(METHOD.replace("grpo_stages()\n", "grpo_stages().with_(regularisers=())\n"))
    assert identity(arguments) != first
    file.write_text(METHOD)
    assert identity(arguments) == first


def test_a_copy_of_a_method_file_trains(tmp_path: Path) -> None:
    source = registry.find("grpo").file.read_text().replace('@register("grpo")', '@register("grpo_copy")')
    file = tmp_path / "grpo_copy.py"
    file.write_text(source)
    arguments = [f"method={file}", *overrides(tmp_path, "train.steps=1")[1:]]
    folder = runs.execute(configured([a for a in arguments if a != f"train.steps={STEPS}"]), evaluate=False)
    assert read_json(folder / "status.json")["state"] == "done"


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("runs_dir=elsewhere", True),
        ("train.checkpoint_every=3", True),
        ("seed=2", False),
        ("train.lr=2e-3", False),
        ("method.eps_low=0.3", False),
    ],
)
def test_what_is_part_of_the_identity(tmp_path: Path, change: str, same: bool) -> None:
    base = overrides(tmp_path)
    changed = [b for b in base if b.partition("=")[0] != change.partition("=")[0]] + [change]
    assert (identity(base) == identity(changed)) == same


def test_a_moved_method_file_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for folder in (tmp_path / "here", tmp_path / "there"):
        monkeypatch.delitem(registry._loaded, "own_idea", raising=False)  # as in another process
        folder.mkdir()
        (folder / "own_idea.py").write_text(METHOD)
        found.add(identity([f"method={folder / 'own_idea.py'}", *overrides(tmp_path)[1:]]))
    assert len(found) == 1


def test_a_younger_setting_counts_only_when_it_changes_something() -> None:
    @dataclasses.dataclass
    class Section:
        old: int = hp(1, "older than the runs")
        young: str = hp("as before", "added later", absent="as before")
        place: str = hp("here", "where", absent=NEVER_COUNTS)

    def names(section: Section) -> list[str]:
        return [f.name for f in dataclasses.fields(section) if counts(f, getattr(section, f.name))]

    assert names(Section(place="there")) == ["old"]
    assert names(Section(young="another way")) == ["old", "young"]


def test_checkpoint_holds_plain_values_only(whole: Path) -> None:
    state = torch.load(whole / "checkpoints" / f"step-{STEPS:06d}.pt", weights_only=True)
    assert state["counters"]["step"] == STEPS
    assert state["components"] == {"prompts": {"drawn": 4 * STEPS}}
    assert {"weights", "optimizer", "torch_rng", "bytes"} <= state.keys()
