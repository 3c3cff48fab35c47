"""Jobs of several nodes, and GPUs that are granted but not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.sweep.jobs import Runs
from harness.sweep.plan import ledger, plan
from harness.sweep.slurm.launcher import SlurmLauncher
from harness.sweep.spec import load_sweep
from tests.slurm.site import Site, queue, slurm, wait


def test_two_nodes_meet_and_sum_over_all_processes(site: Site, monkeypatch: Any) -> None:
    """The probe of a run of two nodes: torchrun on each, a real all-reduce over gloo."""
    path = site.write(slurm={"nodes": 2, "partition": "gpu"})
    monkeypatch.chdir(site.folder)
    sweep = load_sweep(path)
    number = SlurmLauncher(sweep, ledger(sweep)).probe(plan(sweep, Runs()))
    wait("the end of the probe", lambda: not queue("--jobs", number))
    found = json.loads(next(site.folder.glob("runs/.sweeps/small/runs/probes/*/probe.json")).read_text())
    assert found["state"] == "passed", _logs(site)
    assert found["together"]["processes"] == 2 and found["together"]["sum"] == 3.0
    nodes = found["together"]["nodes"]
    assert len(nodes) == 2 and set(nodes) <= {"n1", "n2", "n3"}
    assert "COMPLETED" in slurm("sacct", "-X", "-n", "-j", number, "-o", "State,NNodes")


def _logs(site: Site) -> str:
    return "\n".join(p.read_text() for p in Path(site.folder).glob("runs/.sweeps/*/*/logs/*"))


def test_granted_gpus_that_torch_does_not_see_fail_the_probe_and_say_so(site: Site) -> None:
    settings = {"device": "auto", "train.steps": 1}
    path = site.write(slurm={"gpus": 1}, settings=settings)
    site.run("sweep", "submit", path.name)
    wait("the end of the jobs", lambda: "failed, so nothing" in site.run("sweep", "status", path.name))
    shown = site.run("sweep", "status", path.name)
    assert "Slurm granted GPU 0 on n" in shown and "write device=cpu" in shown
    assert not site.runs()


def test_with_device_cpu_written_the_run_does_without_them(site: Site) -> None:
    path = site.write(slurm={"gpus": 1}, train={"steps": 1})
    site.run("sweep", "submit", path.name)
    wait("its result", lambda: any(site.folder.glob("runs/*/result.json")))
