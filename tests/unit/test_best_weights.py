"""Runs that are evaluated elsewhere than at their end, and runs that take over another's training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from harness.run import execute as runs
from harness.run import measures
from harness.run import reuse as sibling
from harness.run.best import best_point, frontier_points, score, weights_path
from harness.run.checkpoints import last_checkpoint
from harness.train.trainer import Trainer
from harness.util.files import read_json
from tests.helpers.execution import configured
from tests.helpers.tiny import SMALL, tiny_folder

STEPS = 6


def _run(folder: Path, *more: str) -> Any:
    changed = ("train.steps", "eval.frontier_every", "probe.every")
    base = [s for s in SMALL if s.partition("=")[0] not in changed]
    return configured([
        "method=grpo", f"model.path={tiny_folder()}", *base, f"train.steps={STEPS}", "probe.every=3",
        "eval.frontier_every=2", "eval.splits=[test_id]", f"runs_dir={folder}", *more,
    ])  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.execute(_run(tmp_path_factory.mktemp("runs")))


def test_points_are_judged_by_two_ks_and_the_first_of_equal_ones_wins() -> None:
    points = [
        {"step": 0, "n": 16, "correct": [0, 16]},
        {"step": 2, "n": 16, "correct": [4, 8]},
        {"step": 4, "n": 16, "correct": [8, 4]},
    ]
    assert score(points[0]) == pytest.approx(0.5)
    assert score({"n": 4, "correct": [1, 1]}) == pytest.approx(0.25), "four samples allow pass@1 only"
    assert best_point(points)["step"] == 2


def test_best_weights_are_those_of_the_best_point_and_training_is_the_same(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The middle point is made the best; killed after it, the run ends as if it had not been."""
    real = measures.evaluate_problems
    folder = runs.run_folder(_run(tmp_path, "eval.weights=best"))
    assert folder.name != plain.name

    weights: dict[int, Any] = {}

    def judged(policy: Any, benchmark: Any, problems: Any, path: Path, **options: Any) -> Any:
        table = real(policy, benchmark, problems, path, **options)
        step = path.stem.partition("frontier-")[2]
        copied = {name: value.clone() for name, value in policy.weights().items()}
        if step:
            weights[int(step)] = copied
            table["status"] = "right" if int(step) == 2 else "wrong"
        elif path.stem == "test_id":
            weights[-1] = copied
        return table

    monkeypatch.setattr(measures, "evaluate_problems", judged)
    steps = Trainer.step

    def stopping(self: Trainer) -> Any:
        if self.counters.step == 4 and not (folder / "was_killed").exists():
            (folder / "was_killed").touch()
            raise KeyboardInterrupt
        return steps(self)

    monkeypatch.setattr(Trainer, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        runs.execute(_run(tmp_path, "eval.weights=best", "train.checkpoint_every=3"))
    assert weights_path(folder, 2).exists() and not weights_path(folder, 0).exists()
    runs.execute(_run(tmp_path, "eval.weights=best"))

    result = runs.result(folder)
    assert result.evaluated_step == 2 and result.budget.steps == STEPS
    assert result.validation["pass@1"] == 1.0
    assert [f.step for f in result.frontier] == [0, 2, 4, 6]
    assert all(torch.equal(value, weights[2][name]) for name, value in weights[-1].items())
    assert any(not torch.equal(value, weights[6][name]) for name, value in weights[-1].items())
    assert (folder / "metrics.jsonl").read_bytes() == (plain / "metrics.jsonl").read_bytes()
    ends = [last_checkpoint(f / "checkpoints") for f in (folder, plain)]
    assert all(torch.equal(v, ends[1]["weights"][k]) for k, v in ends[0]["weights"].items())  # type: ignore[index]


def test_lost_weights_are_named(plain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(plain, folder)
    point = json.loads((folder / "eval" / "frontier-000002.json").read_text())
    point["correct"] = [point["n"]] * len(point["correct"])
    (folder / "eval" / "frontier-000002.json").write_text(json.dumps(point))
    from harness.run.best import load_best

    with pytest.raises(FileNotFoundError, match=r"best frontier point \(step 2\)"):
        load_best(None, folder)  # type: ignore[arg-type]


def test_another_evaluation_of_a_finished_training_trains_nothing(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(plain, tmp_path / plain.name)
    other = _run(tmp_path, "eval.temperature=0.7")
    folder = runs.run_folder(other)
    # killed while it copied: what is there is not trusted
    (folder / "eval").mkdir(parents=True)
    (folder / "eval" / "frontier-000099.json").write_text("{}")
    (folder / sibling.TAKEN).write_text('{"run_id": "gone"}')
    monkeypatch.setattr(Trainer, "step", lambda self: pytest.fail("trained again"))
    runs.execute(other)
    result, own = runs.result(folder), runs.result(plain)
    assert result.trained_by == plain.name and own.trained_by == ""
    assert result.frontier == own.frontier and result.probe == own.probe
    assert replace(result.budget, wall_s=0) == replace(own.budget, wall_s=0)
    timed = sum(json.loads(line)["wall_s"] for line in (plain / "timings.jsonl").read_text().splitlines())
    assert result.budget.wall_s >= round(timed, 1)
    digests = [r.evals["test_id"].samples_sha256 for r in (result, own)]
    assert digests[0] != digests[1]

    # the same samples as if it had been trained for this
    monkeypatch.undo()
    alone = runs.execute(_run(tmp_path / "alone", "eval.temperature=0.7"))
    assert runs.result(alone).evals == result.evals and runs.result(alone).trained_by == ""


def test_only_a_finished_run_of_equal_training_is_a_sibling(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / plain.name)

    def found(*more: str) -> Any:
        run = _run(tmp_path, *more)
        return sibling.find_reusable(run, runs.run_folder(run))

    there = tmp_path / plain.name
    assert found("eval.temperature=0.7", "eval.n=4") == there
    assert found("train.lr=5e-5") is None and found("seed=2", "eval.n=4") is None
    assert found("eval.frontier_every=3") is None, "its frontier is another"
    assert found("eval.weights=best") == there
    best = int(best_point(frontier_points(there))["step"])
    weights_path(there, best).unlink()
    assert found("eval.weights=best") == (there if best == STEPS else None), "older runs kept the last only"
    (there / "checkpoints" / f"step-{STEPS:06d}.pt").unlink()
    assert found("eval.temperature=0.7") is None
    shutil.rmtree(there)
    shutil.copytree(plain, there)
    (there / "result.json").unlink()
    assert found("eval.temperature=0.7") is None
    assert read_json(plain / "config.json")["identity"]
