"""A folder with a sweep file, the commands a user types there, and the cluster's own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
#: Runs of a second or two of work, so that a test is mostly imports and waiting.
SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "train": {"steps": 2, "checkpoint_every": 1000, "minibatches": 2, "epochs": 1},
    "rollout": {"prompts_per_step": 4, "group_size": 4},
    "probe": {"prompts": 2, "samples": 2, "every": 50},
    "eval": {"splits": ["test_ood"], "n": 2, "frontier_n": 2, "frontier_every": 1000},
}
#: A slow machine gets as long as it needs; what is broken is found out by then.
PATIENCE_S = 280.0


class Site:
    """One folder that sweeps are submitted from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str = "small", *, train: dict[str, Any] | None = None, **changes: Any) -> Path:
        """A sweep file; ``changes`` replace or add top-level keys."""
        settings = SETTINGS | {"train": SETTINGS["train"] | (train or {})}
        body: dict[str, Any] = {"methods": ["grpo"], "seeds": [1], "base_temperatures": [],
                                "settings": settings, "launcher": "slurm"}  # fmt: skip
        body |= changes
        body["slurm"] = {"time": "10m", "limit": 2} | body.get("slurm", {})
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(body))
        return path

    def run(self, *words: str, code: int = 0, **environment: str) -> str:
        """What ``entrobench`` prints, in this process; the exit code must be ``code``."""
        from harness.cli import main

        with pytest.MonkeyPatch.context() as patch, StringIO() as text:
            patch.chdir(self.folder)
            for name, value in environment.items():
                patch.setenv(name, value)
            with redirect_stdout(text), redirect_stderr(text):
                found = main(words)
            output = text.getvalue()
        assert found == code, f"{words}: {output}"
        return output

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "entrobench", *words]

    def runs(self) -> list[Path]:
        """Run folders."""
        return sorted(p for p in (self.folder / "runs").glob("*") if not p.name.startswith("."))

    def status(self, run: Path | None = None) -> dict[str, Any]:
        """The status file of the only run, or of ``run``."""
        path = (run or (self.runs() or [Path("none")])[0]) / "status.json"
        try:
            return {"step": 0} | json.loads(path.read_text())
        except OSError:
            return {"state": "missing", "step": 0}

    def attempts(self, run_id: str = "") -> list[dict[str, Any]]:
        """What became of the jobs of the only run."""
        files = sorted(self.folder.glob(f"runs/.sweeps/*/runs/attempts/{run_id}*.jsonl"))
        return [
            json.loads(line)
            for f in files
            if not f.name.startswith("probe")
            for line in f.read_text().splitlines()
        ]

    def ends(self) -> list[dict[str, Any]]:
        return [line for line in self.attempts() if line["event"] == "end"]


def slurm(*command: str) -> str:
    """The output of a command of the cluster, which must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def queue(*options: str) -> list[str]:
    return slurm("squeue", "-h", "-r", *options).splitlines()


def wait(what: str, met: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)
