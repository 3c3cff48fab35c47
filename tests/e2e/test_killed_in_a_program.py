"""A run that is killed while its rollout program waits for an answer goes on to equal bytes.

Every method whose program needs more than one answer is here; one of them is a part of every run of the
tests, the others run by hand (``make test-kills``).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.rollout.collector import RolloutCollector
from harness.run import execute as runs
from harness.run.compose import compose
from harness.run.identity import run_folder
from tests.helpers.execution import numbers_of
from tests.helpers.processes import WARM
from tests.methods.support.cases import CASES, folder_of

SETTINGS = {
    "model.path": "micro", "data.benchmark": "micro", "seed": 5, "device": "cpu", "train.steps": 4,
    "train.minibatches": 2, "train.epochs": 1, "train.lr": 1e-4, "train.warmup_steps": 0,
    "train.checkpoint_every": 2, "rollout.prompts_per_step": 4, "rollout.group_size": 4,
    "probe.prompts": 2, "probe.samples": 1, "eval.frontier_every": 100, "eval.frontier_n": 2,
}  # fmt: skip
#: Step whose program is disturbed: the first behind a checkpoint, when buffers and memories hold something.
STEP = 3
IN_EVERY_RUN = ("spo@tree",)
METHODS = (
    "agentic-aepo@released", "aepo", "cure", "dapo", "data-filters", "ettrl", "hapo@released",
    "igpo@released", "mentor", "prompt-augmentation", "r3", "sage@full", "sage@light", "self-play-azr",
    "spo@chain", "spo@tree", "tool-light",
)  # fmt: skip
#: What makes a program ask twice where the defaults would not on problems like these.
MORE: Mapping[str, Mapping[str, Any]] = {"dapo": {"method.gen_factor": 3.0}}


def settings(name: str, folder: Path) -> dict[str, Any]:
    own = {f"method.{key}": value for key, value in CASES[folder_of(name)].micro.get(name, {}).items()}
    return {**SETTINGS, **own, **MORE.get(name, {}), "method": name, "runs_dir": str(folder)}


def _execute(values: Mapping[str, Any], told: str, die_at: int) -> None:
    """Carry out a run: ``told`` gets a byte for each answer in :data:`STEP`; the ``die_at``-th kills it."""
    answered = 0

    def watch(name: str) -> None:
        original = getattr(RolloutCollector, name)

        def watched(self: Any, request: Any, *rest: Any) -> Any:
            nonlocal answered
            answer = original(self, request, *rest)
            if self._counters.step == STEP:
                answered += 1
                Path(told).write_bytes(b"." * answered)
                if answered == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return answer

        setattr(RolloutCollector, name, watched)

    for name in ("_generated", "_score", "_verify"):
        watch(name)
    runs.execute(compose(values), evaluate=False)


def carried_out(values: Mapping[str, Any], told: Path, die_at: int = 0) -> int:
    """The exit code of a process that carries out the run of ``values``."""
    process = WARM.Process(target=_execute, args=(dict(values), str(told), die_at))
    process.start()
    process.join(280)
    code = process.exitcode
    process.kill()
    process.join()
    return -999 if code is None else int(code)


def chosen(names: Sequence[str]) -> list[Any]:
    return [pytest.param(n, marks=[] if n in IN_EVERY_RUN else pytest.mark.by_hand) for n in names]


@pytest.mark.parametrize("name", chosen(METHODS))
def test_a_run_killed_inside_its_program_goes_on_to_equal_bytes(name: str, tmp_path: Path) -> None:
    told = tmp_path / "answers"
    whole, cut = settings(name, tmp_path / "whole"), settings(name, tmp_path / "cut")
    assert carried_out(whole, told) == 0
    answers = told.stat().st_size
    assert answers > 1, "one answer in this step: nothing is in the middle"
    assert carried_out(cut, told, die_at=(answers + 1) // 2) == -signal.SIGKILL
    assert carried_out(cut, told) == 0
    expected, found = (numbers_of(run_folder(compose(values))) for values in (whole, cut))
    assert len(expected) > 2 and found == expected
