"""Processor seconds of ``sweep status`` and ``sweep collect`` over many finished runs, a process each.

    python -m tests.performance.bench_sweep [RUNS]

The runs are folders as finished ones leave them, made from a committed record of the testbed; the plan is
kept, as it is where runs were started by it. ``collect again`` finds nothing new.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.records.load import read_record
from harness.records.record import RunResult
from harness.records.write import write_result
from harness.sweep.jobs import Job, Runs
from harness.sweep.plan import plan
from harness.sweep.spec import load_sweep
from tests.performance.bench_plan import ROOT, write_sweep
from tests.performance.bench_report import COMMITTED


def finished_sweep(folder: Path, runs: int) -> Path:
    """A sweep of about so many runs in ``folder``, planned and all of them done; its file."""
    path = write_sweep(folder, runs)
    lines = COMMITTED.read_text(encoding="utf-8").splitlines()
    template = next(r for r in map(read_record, lines) if r.role == "method" and r.trace)
    known = {name: getattr(template, name) for name in RunResult.__struct_fields__}
    sweep, backend = load_sweep(path, options(folder)), Runs()
    for job in plan(sweep, backend):
        own = {"run_id": job.folder.name, "method": job.method, "seed": job.seed}
        _finish(job, RunResult(**known | own))
    return path


def _finish(job: Job, result: RunResult) -> None:
    (job.folder / "eval").mkdir(parents=True, exist_ok=True)
    for split in job.splits:
        (job.folder / "eval" / f"{split}.parquet").touch()
    write_result(job.folder / "result.json", result)
    status = {
        "state": "done", "step": 100, "steps": 100, "host": "node", "elapsed_s": 60.0, "reward": 0.5,
        "updated_unix_s": time.time(),
    }  # fmt: skip
    (job.folder / "status.json").write_text(json.dumps(status), encoding="utf-8")


def options(folder: Path) -> list[str]:
    """Everything that the sweep writes goes into ``folder``."""
    return [f"runs_dir={folder / 'runs'}", f"results_dir={folder / 'results'}"]


def once(verb: str, path: Path) -> float:
    """Processor seconds of ``entrobench sweep VERB``, from the start of its process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "entrobench", "sweep", verb, str(path), *options(path.parent)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measure(runs: int) -> dict[str, float]:
    """Seconds of each command over ``runs`` finished runs."""
    with tempfile.TemporaryDirectory() as name:
        path = finished_sweep(Path(name), runs)
        return {
            "status": once("status", path), "collect": once("collect", path),
            "collect again": once("collect", path),
        }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1000), indent=1))
