"""``sweep plan --script``: the scripts of a submission, read anywhere, nothing queued or written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.sweep.plan import ledger, make_plan
from harness.sweep.slurm import queue
from harness.sweep.slurm.preview import scripts
from harness.sweep.spec import load_sweep

Write = Callable[..., Path]
SLURM: dict[str, Any] = {
    "partition": "gpu",
    "gpus": 2,
    "memory": "64G",
    "time": "4h",
    "setup": ["module load cuda"],
}


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: str) -> str:
        raise queue.QueueError("no Slurm here")

    monkeypatch.setattr(queue, "run", refuse)


def test_scripts_hold_what_the_file_asks_for(
    sweep_file: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-secret")
    path = sweep_file(launcher="slurm", slurm=SLURM)
    assert main(["sweep", "plan", str(path), "--script", "slurm.partition=low"]) == 0
    text = capsys.readouterr().out
    probe, array = text.split("# --- array of 5 runs ---")
    for line in ("--partition=low", "--gpus-per-node=2", "--mem=64G", "--time=0-04:00:00"):
        assert f"#SBATCH {line}\n" in probe and f"#SBATCH {line}\n" in array
    assert "#SBATCH --array=0-4%5\n" in array and "--array" not in probe
    assert "#SBATCH --dependency=afterok:PROBE_JOB\n" in array
    for line in ("module load cuda", "export HF_HUB_OFFLINE=1"):
        assert f"\n{line}\n" in array
    assert "a-secret" not in text
    assert not [p for p in (tmp_path / "runs").rglob("*") if p.is_file() and p.name != "plan.json"]


def test_arrays_are_cut_to_what_the_cluster_takes(
    sweep_file: Write, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "run", lambda *words: "MaxArraySize            = 2\n")
    sweep = load_sweep(sweep_file(slurm=SLURM | {"limit": 1}))
    found = list(scripts(sweep, make_plan(sweep, backend), ledger(sweep)))
    assert [what for what, _ in found][1:] == ["array of 2 runs", "array of 2 runs", "array of 1 run"]
    assert "#SBATCH --array=0-1%1\n" in found[1][1]


def test_flags_may_stand_anywhere(sweep_file: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(sweep_file())
    outputs = []
    for words in (
        ["--runs", path, "seeds=[1]"],
        [path, "--runs", "seeds=[1]"],
        [path, "seeds=[1]", "--runs"],
    ):
        assert main(["sweep", "plan", *words]) == 0
        outputs.append(capsys.readouterr().out)
    assert len(set(outputs)) == 1 and "3 runs: 3 missing" in outputs[0]
