"""What people see: status with and without accounting, logs, a full disk, tuning as a sweep of its own."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.site import Site, queue, wait


@pytest.fixture
def no_accounting(tmp_path: Path) -> str:
    """A PATH on which sacct fails as it does where there is no slurmdbd."""
    fake = tmp_path / "bin" / "sacct"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    return f"{fake.parent}{os.pathsep}{os.environ['PATH']}"


def test_status_without_accounting_logs_and_a_run_that_fails(site: Site, no_accounting: str) -> None:
    """One of two runs diverges after the probe, which takes the other one's first step."""
    path = site.write(
        methods=["grpo", "dapo"],
        per_method={"dapo": {"train.lr": 1e30, "train.steps": 3}},
        train={"steps": 3},
    )
    site.run("sweep", "submit", path.name)
    waiting = site.run("sweep", "status", path.name, PATH=no_accounting)
    assert "2 pending" in waiting and "the runs wait for it" in waiting
    wait("both to end", lambda: {site.status(run)["state"] for run in site.runs()} == {"done", "failed"})
    wait("an empty queue", lambda: not queue("--name", ",".join(_names(site))))
    shown = site.run("sweep", "status", path.name, PATH=no_accounting)
    assert "2 runs: 1 done, 1 failed" in shown and "FloatingPointError: loss" in shown
    assert "lower train.lr" in shown and "3/3" in shown
    assert "entrobench sweep logs" in shown and "entrobench sweep retry" in shown
    log = site.run("sweep", "logs", path.name, "dapo-s1")
    assert "Traceback" in log and "FloatingPointError" in log
    assert "unknown run 'dappo'" in site.run("sweep", "logs", path.name, "dappo", code=2)
    assert "1 failed earlier" in site.run("sweep", "submit", path.name, code=1)


def _names(site: Site) -> list[str]:
    return [f"eb-small-{p.stem}" for p in site.folder.glob("runs/.sweeps/*/runs/arrays/*.json")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a run's first checkpoint, and not for its second."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_in_the_status(site: Site, small_disk: Path) -> None:
    path = site.write(train={"steps": 3, "checkpoint_every": 1}, runs_dir=str(small_disk))
    site.run("sweep", "submit", path.name)
    wait("its end", lambda: "1 failed" in site.run("sweep", "status", path.name))
    shown = " ".join(site.run("sweep", "status", path.name).split())
    assert "cannot write a checkpoint: 0 of 6 MiB are free" in shown, shown
    # nothing half-written is left under a name that anybody reads
    assert not list(small_disk.glob("*/result.json"))


def test_tuning_is_a_sweep_of_its_own(site: Site) -> None:
    knobs = {"grpo": {"eps_high": [0.2]}}
    tuning = {"lrs": [1e-4, 2e-4], "knobs": knobs, "seed": 101, "metric": ["pass@1"]}
    path = site.write(train={"steps": 1}, tuning=tuning)
    told = site.run("sweep", "tune", path.name)
    assert "queued 2 runs" in told and "entrobench sweep tune" in told
    assert "nothing is chosen before all trials are done" in site.run("sweep", "tune", path.name)
    wait("both trials", lambda: len(list(site.folder.glob("runs/*/result.json"))) == 2)
    wait("an empty queue", lambda: "tuning: 2 runs: 2 done" in site.run("sweep", "status", path.name))
    assert "wrote the choice of 1 methods" in site.run("sweep", "tune", path.name)
    assert (site.folder / "small.tuned.yaml").exists()
