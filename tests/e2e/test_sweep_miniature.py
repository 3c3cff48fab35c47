"""The demo in miniature, with the real trainer: submit, be killed, go on, report; nothing is made twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import main
from harness.util.locks import holder
from tests.helpers.warm_python import warm_python

SWEEP = """
title: miniature
methods: [grpo, steer]
seeds: [1]
base_temperatures: [1.0]
settings:
  train: {steps: 3, checkpoint_every: 1, minibatches: 2, epochs: 1}
  rollout: {prompts_per_step: 4, group_size: 4}
  probe: {prompts: 2, samples: 2, every: 2}
  eval: {splits: [test_id], n: 2, frontier_n: 2, frontier_every: 10}
"""
COMMAND = [sys.executable, "-m", "entrobench"]
ROOT = Path(__file__).parent.parent.parent


def _running(folder: Path) -> list[Path]:
    """Run folders whose lock is held by a live worker."""
    locks = (folder / "runs" / ".sweeps" / "locks").glob("*.lock")
    return [lock for lock in locks if holder(lock) is not None]


def _wait(met: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not met() and time.monotonic() < deadline:
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_submit_kill_go_on_report_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mini.yaml").write_text(SWEEP)
    submit = ("sweep", "submit", "mini.yaml", "launcher=local", "workers=2")

    def here(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(list(words))
        return code, capsys.readouterr().out

    submitter = subprocess.Popen(
        [*COMMAND, *submit], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        _wait(lambda: bool(list(tmp_path.glob("runs/grpo-*/checkpoints/step-*.pt"))))
    finally:
        submitter.send_signal(signal.SIGKILL)
        submitter.wait()
    _wait(lambda: not _running(tmp_path))
    assert not _running(tmp_path), "workers outlive a submitter that was killed"

    # What follows is said in this process, which has imported it all already, as its workers now have too.
    monkeypatch.chdir(tmp_path)
    with warm_python() as python, monkeypatch.context() as patch:
        patch.setattr(sys, "executable", python)
        code, again = here(*submit)
    assert code == 0, again
    results = sorted(tmp_path.glob("runs/*/result.json"))
    assert [path.parent.name.split("-")[0] for path in results] == ["base", "grpo", "steer"]
    for path in tmp_path.glob("runs/[gs]*/metrics.jsonl"):
        assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]

    assert main(["report", "mini.yaml"]) == 2
    assert "3 finished runs of it are here, take them in: entrobench sweep collect mini.yaml" in (
        capsys.readouterr().err
    )
    code, collected = here("sweep", "collect", "mini.yaml")
    assert code == 0 and "3 records (3 new) of 3 planned runs" in collected
    code, report = here("report", "mini.yaml")
    assert code == 0, report
    for name in (
        "leaderboard.md",
        "leaderboard.csv",
        "leaderboard.html",
        "entropy.png",
        "passk.png",
        "frontier.png",
        "delta.png",
        "law.png",
    ):
        assert (tmp_path / "results" / "mini" / name).stat().st_size > 0
        assert f"results/mini/{name}" in report
    assert "grpo" in report and "steer" in report

    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*")}
    code, third = here(*submit)
    assert code == 0 and "nothing left to start: 3 of 3 done" in third
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*")} == before

    code, status = here("sweep", "status", "mini.yaml")
    assert code == 0 and "3 runs: 3 done" in status
    code, finished = here("eval", str(results[-1].parent))
    assert code == 0 and "pass@1" in finished
