"""A sweep whose runs are finished, made from nothing, and what the command line says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import main
from harness.sweep.jobs import Job, Runs
from harness.sweep.plan import make_plan
from harness.sweep.spec import load_sweep

Write = Callable[..., Path]
Say = Callable[..., tuple[int, str]]
RIGHT = {"base": 2, "grpo": 4, "steer": 5}


def finish(job: Job, commit: str, wall_s: float, more: int = 0) -> None:
    """The folder of a finished run, as a run would leave it, but made from nothing."""
    right = RIGHT[job.label] + job.seed + more
    result = {
        "schema": 2, "run_id": job.run_id, "method": job.label, "seed": job.seed,
        "model": job.config["model"]["path"], "benchmark": "micro@2",
        "numerics_version": Runs.numerics_version, "commit": commit,
        "method_hash": job.label, "hardware": "a CPU", "budget": {"wall_s": wall_s},
        "evals": {"test_id": {"n": 16, "correct": [right, right + 2, right - 1, 1]}},
    }  # fmt: skip
    (job.folder / "eval").mkdir(parents=True, exist_ok=True)
    for split in job.splits:
        (job.folder / "eval" / f"{split}.parquet").touch()
    (job.folder / "status.json").write_text(json.dumps({"state": "done", "step": 3, "steps": 3}))
    (job.folder / "result.json").write_text(json.dumps(result))


def finished_runs(write: Write) -> tuple[Path, list[Job]]:
    """A sweep of GRPO and STEER with three seeds, all finished."""
    path = write(methods=["grpo", "steer"], seeds=[1, 2, 3])
    jobs = make_plan(load_sweep(path), Runs())
    for job in jobs:
        finish(job, "aaaa111", 10.0 + job.seed)
    return path, jobs


def speaker(capsys: pytest.CaptureFixture[str]) -> Say:
    """Calls a command; its exit code and all that it printed."""

    def say(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(list(words))
        said = capsys.readouterr()
        return code, said.out + said.err

    return say
