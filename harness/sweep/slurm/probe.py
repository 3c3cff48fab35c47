"""``entrobench _probe JOB``: the job before all others. What would fail in a thousand runs fails here, once.

It imports what runs import, checks the device, and takes one training step of one run of every model and
training set. Where a run has several processes they sum a number over all of them first, and share the step.
"""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.distributed.processes import launched_size
from harness.distributed.world import joined, plain_group
from harness.run.compose import from_dict
from harness.sweep.jobs import Job
from harness.util.files import read_json, write_json

#: In a probe's folder.
RESULT = "probe.json"


def probe_job(folder: Path, jobs: Sequence[Job]) -> dict[str, Any]:
    """What the probe of ``jobs`` has to read: one run of every model and training set."""
    chosen: dict[str, Job] = {}
    for job in jobs:
        if job.role != "base":
            chosen.setdefault(job.setting, job)
    some = list(chosen.values()) or list(jobs[:1])
    return {"folder": str(folder), "runs": [{"name": job.name, "config": dict(job.config)} for job in some]}


def probe(file: str) -> int:
    """Carry out the probe; returns 0 when everything works."""
    job = read_json(Path(file))
    first = int(os.environ.get("RANK", "0")) == 0
    start = time.time()
    found: dict[str, Any] = {"state": "running", "node": os.environ.get("SLURMD_NODENAME", "")}
    path = Path(job["folder"]) / RESULT
    if first:
        write_json(path, found)
    try:
        found |= _look(job)
        found |= {"state": "passed", "wall_s": round(time.time() - start, 1)}
    except BaseException as error:
        traceback.print_exc()
        lines = traceback.format_exception_only(error)[-1].strip().splitlines()[-3:]
        found |= {"state": "failed", "error": lines}
    if first:
        write_json(path, found)
    return 0 if found["state"] == "passed" else 1


def _look(job: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {"torch": torch.__version__}
    if launched_size() > 1:
        with joined("cuda" if torch.cuda.is_available() else "cpu"):
            return found | {"together": sum_over_processes(), "steps": _steps(job)}
    return found | {"steps": _steps(job)}


def _steps(job: Mapping[str, Any]) -> dict[str, Any]:
    steps = {}
    for run in job["runs"]:
        start = time.monotonic()
        device = one_step(run["config"])
        steps[run["name"]] = {"wall_s": round(time.monotonic() - start, 1), "device": device}
    return steps


def one_step(config: Mapping[str, Any]) -> str:
    """Open the run and take its first step, outside its folder; returns the device."""
    from harness.run.set_up import device_of, open_run
    from harness.train.trainer import Trainer

    run = from_dict(config)
    policy, benchmark = open_run(run)
    Trainer(run, policy, benchmark, run.method.stages()).step()
    with tempfile.NamedTemporaryFile(dir=_writable(run.runs_dir)) as handle:
        handle.write(b"entrobench")
    return device_of(run)


def _writable(runs_dir: str) -> Path:
    """Where runs will write, which must exist and take files."""
    path = Path(runs_dir).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return path


def sum_over_processes() -> dict[str, Any]:
    """Every process contributes its rank + 1; the sum shows that all of them hear each other.

    Raises:
        RuntimeError: the sum is wrong.
    """
    import torch
    import torch.distributed as dist

    rank, world = dist.get_rank(), dist.get_world_size()
    gpus = torch.cuda.is_available()
    total = torch.tensor([float(rank + 1)], device="cuda" if gpus else "cpu")
    dist.all_reduce(total)
    names: list[Any] = [None] * world
    dist.all_gather_object(names, os.environ.get("SLURMD_NODENAME", ""), group=plain_group())
    expected = world * (world + 1) / 2
    if total.item() != expected:
        raise RuntimeError(f"{world} processes summed to {total.item()} instead of {expected}")
    return {
        "processes": world,
        "sum": total.item(),
        "nodes": sorted(set(names)),
        "backend": "nccl" if gpus else "gloo",
    }
