"""SFT, then RL in two processes: model, teacher and reference are sharded, the numbers are those of one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.distributed.launch import launch
from harness.run import execute as runs
from harness.run import sharded_checkpoint as shards
from harness.run.checkpoints import last_checkpoint
from tests.helpers.execution import configured
from tests.helpers.warm_python import warm_python
from tests.unit.test_fine_tuning import SFT_STEPS, STEPS, overrides, rows

pytestmark = pytest.mark.slow
#: AdamW makes a step of the learning rate's size out of a rounding error.
SMALL_STEPS = ("sft.lr=1e-5", "train.lr=1e-5", "train.checkpoint_every=2")


def plan(folder: Path, **what: Any) -> dict[str, Any]:
    return {"overrides": overrides(folder, *SMALL_STEPS), "do": "train", **what}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of one process, of two, and of two that were told to stop in either phase."""
    root = tmp_path_factory.mktemp("shared")
    found = {"one": runs.execute(configured(overrides(root / "one", *SMALL_STEPS)))}
    told = root / "told"
    file = root / "plan.json"
    # the context of a step counts the steps of its own phase
    plans = [plan(root / "two"), plan(told, do="term", rank=1, step=3), plan(told)]
    file.write_text(json.dumps(plans))
    for name in ("two", "told"):
        found[name] = runs.run_folder(configured(overrides(root / name, *SMALL_STEPS)))
    with warm_python() as python, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", python)
        code = launch([str(file)], processes=2, folder=found["told"], module="tests.helpers.shared_run")
    assert code == 0
    return found


def test_two_processes_give_the_numbers_of_one(folders: dict[str, Path]) -> None:
    one = folders["one"]
    state = last_checkpoint(one / "checkpoints")
    assert state is not None
    for name in ("two", "told"):
        assert runs.status(folders[name])["state"] == "done"
        for got, want in zip(rows(folders[name]), rows(one), strict=True):
            assert got.keys() == want.keys()
            for key in want.keys() - {"copied_tokens"}:  # each process has its own copies of prompts
                assert got[key] == pytest.approx(want[key], rel=1e-4, abs=1e-5), (key, want["step"])
        other = last_checkpoint(folders[name] / "checkpoints")
        assert other is not None
        for key, value in state["weights"].items():
            torch.testing.assert_close(other["weights"][key], value, rtol=0, atol=1e-5)


def test_stopped_is_the_same_as_undisturbed(folders: dict[str, Path]) -> None:
    two, told = ((folders[name] / "metrics.jsonl").read_bytes() for name in ("two", "told"))
    assert two == told


def test_teacher_and_reference_are_sharded_into_their_checkpoints(folders: dict[str, Path]) -> None:
    from torch.distributed.checkpoint import FileSystemReader

    for step in (SFT_STEPS, SFT_STEPS + 2, SFT_STEPS + STEPS):
        path = folders["two"] / "checkpoints" / f"step-{step:06d}"
        kept = FileSystemReader(path).read_metadata().state_dict_metadata
        names = {key.partition(".")[2] for key in kept if key.startswith("reference.")}
        assert names == set(shards.weights_of(path)), step
