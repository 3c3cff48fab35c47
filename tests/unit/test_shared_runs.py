"""A run that several processes share: the numbers of one, any number goes on, and a death is told once."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from harness.distributed.launch import launch
from harness.model.policy import load_policy
from harness.run import execute as runs
from harness.run import sharded_checkpoint as shards
from harness.run.best import best_weights
from harness.run.checkpoints import checkpoint_path, last_checkpoint, load_weights, newest, step_of
from harness.run.export import export
from harness.util.errors import UserError
from tests.helpers.execution import configured
from tests.helpers.tiny import SMALL, tiny_folder
from tests.helpers.warm_python import warm_python

pytestmark = pytest.mark.slow
STEPS, ROWS = 4, "train.micro_batch_rows=8"


def overrides(runs_dir: Path, *more: str) -> list[str]:
    changed = ("train.steps", "eval.frontier_every", "probe.every", "train.lr")
    base = [s for s in SMALL if s.partition("=")[0] not in changed]
    return [
        # a controller, whose state stands in the checkpoint
        "method=entrocraft@released", f"model.path={tiny_folder()}", *base, f"train.steps={STEPS}",
        "train.lr=1e-4",  # AdamW makes a step of that size out of a rounding error
        "train.checkpoint_every=2", "eval.frontier_every=2", "probe.every=3", "eval.splits=[test_id]",
        f"runs_dir={runs_dir}", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def alone(root: Path) -> Path:
    """The folder of the run of one process."""
    return runs.execute(configured(overrides(root / "alone")))


@pytest.fixture(scope="module")
def python() -> Iterator[str]:
    with warm_python() as path:
        yield path


@pytest.fixture(scope="module")
def start(root: Path, python: str) -> Callable[..., int]:
    """Carry out a plan in ``size`` processes; gives the exit code."""

    def start(size: int, name: str, plan: list[dict[str, Any]]) -> int:
        file = root / f"{name}.json"
        file.write_text(json.dumps(plan))
        folder = runs.run_folder(configured(plan[-1]["overrides"]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "executable", python)
            return launch([str(file)], processes=size, folder=folder, module="tests.helpers.shared_run")

    return start


@pytest.fixture(scope="module")
def killed(root: Path, start: Callable[..., int]) -> tuple[Path, int]:
    """A run of four processes of which one was killed in the third step: its folder, exit code."""
    plan = [{"overrides": overrides(root / "four"), "do": "kill", "rank": 2, "step": 3}]
    code = start(4, "killed", plan)
    return runs.run_folder(configured(plan[0]["overrides"])), code


@pytest.fixture(scope="module")
def two(root: Path, alone: Path, killed: tuple[Path, int], start: Callable[..., int]) -> dict[str, Path]:
    """Folders of runs that two processes have finished."""
    places = {name: root / name for name in ("of four", "of one", "undisturbed", "told", "oom")}
    shutil.copytree(killed[0].parent, places["of four"])
    half = places["of one"] / alone.name
    shutil.copytree(alone, half)
    (half / "result.json").unlink()
    (half / "checkpoints" / f"step-{STEPS:06d}.pt").unlink()
    plan = [
        *({"overrides": overrides(places[n]), "do": "train"} for n in ("of four", "of one", "undisturbed")),
        {"overrides": overrides(places["told"]), "do": "term", "rank": 1, "step": 3},
        {"overrides": overrides(places["told"]), "do": "train"},
        {"overrides": overrides(places["oom"], ROWS), "do": "oom", "rank": 1, "step": 2},
    ]  # fmt: skip
    assert start(2, "two", plan) == 2
    return {name: next(p for p in place.iterdir() if p.name != ".sweeps") for name, place in places.items()}


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_numbers(folder: Path, alone: Path) -> None:
    assert runs.status(folder)["state"] == "done"
    for got, want in zip(rows(folder), rows(alone), strict=True):
        assert got.keys() == want.keys()
        for key in want.keys() - {"copied_tokens"}:  # each process has its own copies of prompts
            assert got[key] == pytest.approx(want[key], rel=1e-4, abs=1e-5), f"{key} of step {want['step']}"
    weights = [last_checkpoint(f / "checkpoints") for f in (folder, alone)]
    assert weights[0] is not None and weights[1] is not None
    for name, value in weights[1]["weights"].items():
        torch.testing.assert_close(weights[0]["weights"][name], value, rtol=0, atol=1e-5)
    results = [runs.result(f) for f in (folder, alone)]
    for part in ("frontier", "evals", "validation"):
        texts = [msgspec.json.encode(getattr(r, part), order="sorted") for r in results]
        if part != "frontier":  # which holds an entropy, with its rounding
            assert texts[0] == texts[1]
    assert [f.correct for f in results[0].frontier] == [f.correct for f in results[1].frontier]


def test_one_error_names_the_process_that_was_killed(killed: tuple[Path, int], root: Path) -> None:
    folder, code = killed
    assert code == 128 + 9
    status = runs.status(folder)
    assert status["state"] == "running"  # for what comes next it is lost, and starts again by itself
    assert len(status["error"]) == 1
    assert status["error"][0].startswith("rank 2 of 4 (process ") and "SIGKILL" in status["error"][0]
    # noticed long before the others would have given up waiting
    assert status["updated_unix_s"] - (root / "killed.json.killed").stat().st_mtime < 120
    last = newest(folder / "checkpoints")
    assert last is not None and last.name == "step-000002" and last.is_dir()


def test_a_checkpoint_of_four_goes_on_in_one(killed: tuple[Path, int], alone: Path, tmp_path: Path) -> None:
    shutil.copytree(killed[0], tmp_path / killed[0].name)
    folder = runs.execute(configured(overrides(tmp_path)))
    assert_same_numbers(folder, alone)
    result = runs.result(folder)
    assert result.processes_used == [1, 4] and result.determinism == "statistical"


def test_checkpoints_of_four_and_of_one_go_on_in_two(two: dict[str, Path], alone: Path) -> None:
    for name, sizes in (("of four", [2, 4]), ("of one", [1, 2])):
        assert_same_numbers(two[name], alone)
        assert runs.result(two[name]).processes_used == sizes


def test_one_process_that_is_told_to_stop_stops_all_and_the_bits_stay(
    two: dict[str, Path], alone: Path
) -> None:
    assert_same_numbers(two["undisturbed"], alone)
    result = runs.result(two["told"])
    assert result.processes_used == [2] and result.determinism == "bitwise"
    assert (two["told"] / "metrics.jsonl").read_bytes() == (two["undisturbed"] / "metrics.jsonl").read_bytes()
    weights = [
        shards.weights_of(two[n] / "checkpoints" / f"step-{STEPS:06d}") for n in ("told", "undisturbed")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_out_of_memory_names_the_knob(two: dict[str, Path]) -> None:
    status = runs.status(two["oom"])
    assert status["state"] == "failed"
    text = status["error"][0]
    assert "out of memory in update" in text and "GiB" in text
    assert "train.micro_batch_rows=4 instead of 8" in text


def test_exports_load_as_plain_transformers_models(two: dict[str, Path], alone: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for name, run in (("file", alone), ("folder", two["undisturbed"])):
        best = best_weights(run)
        for checkpoint, source in (("last", checkpoint_path(run, STEPS)), ("best", best)):
            target = tmp_path / f"{name}-{checkpoint}"
            assert export(run, target, checkpoint=checkpoint) == step_of(source)
            policy = load_policy(tiny_folder())
            load_weights(source, policy)
            model = AutoModelForCausalLM.from_pretrained(target)
            own = model.state_dict()
            assert all(torch.equal(own[key], value) for key, value in policy.weights().items())
            tokenizer = AutoTokenizer.from_pretrained(target)
            assert tokenizer.chat_template and tokenizer.eos_token_id == model.generation_config.eos_token_id
            assert model.generate(**tokenizer("say", return_tensors="pt"), max_new_tokens=2).shape[1] > 1
    with pytest.raises(UserError, match="give a new folder"):
        export(alone, tmp_path / "file-last")
    with pytest.raises(UserError, match=rf"no checkpoint of step 1; it has those of step .*{STEPS}"):
        export(alone, tmp_path / "new", checkpoint="1")
    with pytest.raises(UserError, match="neither best, last nor"):
        export(alone, tmp_path / "new", checkpoint="newest")
    assert not (tmp_path / "new").exists()


def test_only_the_first_process_writes(two: dict[str, Path]) -> None:
    names = {p.name for p in two["undisturbed"].rglob("*") if p.is_file()}
    assert not any(".tmp" in name or ".part-" in name for name in names)
    steps = [row["step"] for row in rows(two["undisturbed"])]
    assert steps == list(range(STEPS + 1))
