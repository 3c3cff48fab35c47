"""Jobs of several nodes, and GPUs that are granted but not there."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.site import Site, wait

#: Long enough to be killed in between.
STEPS, EVERY = 4, 2
#: A probe and two jobs of two processes, each of them mostly imports.
PATIENCE_S = 600.0


@pytest.mark.timeout(900)
def test_two_nodes_share_a_run_that_outlives_one_of_its_processes(site: Site, make_site: Any) -> None:
    """torchrun's agent on each node, over gloo; one process is killed; the numbers are those of one."""
    train = {"steps": STEPS, "checkpoint_every": EVERY}
    path = site.write(slurm={"nodes": 2, "partition": "gpu"}, train=train)
    site.run("sweep", "submit", path.name)
    wait("its third step", lambda: site.status()["step"] > EVERY or _over(site), PATIENCE_S)
    os.kill(site.status()["pid"], signal.SIGKILL)
    wait("its end", lambda: _over(site), PATIENCE_S)
    assert site.status()["state"] == "done", _logs(site)
    probe = json.loads(next(site.folder.glob("runs/.sweeps/small/runs/probes/*/probe.json")).read_text())
    together = probe["together"]
    assert probe["state"] == "passed" and together["processes"] == 2 and together["sum"] == 3.0
    assert len(together["nodes"]) == 2 and set(together["nodes"]) <= {"n1", "n2", "n3"}
    first = site.ends()[0]
    assert "killed by signal 9" in first["what"], first
    assert "rank 0 of 2 (process" in _logs(site) and "SIGKILL" in _logs(site)
    result = json.loads((site.runs()[0] / "result.json").read_text())
    assert result["processes_used"] == [2]

    alone = make_site("alone")
    alone.write(launcher="local", train=train)
    alone.run("sweep", "submit", "small.yaml", "workers=1")
    assert site.runs()[0].name == alone.runs()[0].name
    for got, want in zip(_metrics(site), _metrics(alone), strict=True):
        assert got.keys() == want.keys()
        for key in want:
            if key == "copied_tokens":  # each process has its own copies of prompts
                continue
            assert got[key] == pytest.approx(want[key], rel=1e-4, abs=1e-5), f"{key} of step {want['step']}"
    other = json.loads((alone.runs()[0] / "result.json").read_text())
    assert result["evals"]["test_ood"]["correct"] == other["evals"]["test_ood"]["correct"]


def _over(site: Site) -> bool:
    return bool(site.status()["state"] in ("done", "failed"))


def _metrics(site: Site) -> list[dict[str, float]]:
    return [json.loads(line) for line in (site.runs()[0] / "metrics.jsonl").read_text().splitlines()]


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
