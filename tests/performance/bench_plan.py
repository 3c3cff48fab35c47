"""Seconds that ``entrobench sweep plan`` takes for a thousand runs, from process start with no kept plan.

    python -m tests.performance.bench_plan [RUNS] [TIMES]

Beside it: what Hydra's own composition of one run costs, and hence how much longer composing every run by it
would take. CPU time is the figure to look at on a shared machine.
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
from statistics import median

ROOT = Path(__file__).parent.parent.parent
#: Runs that Hydra may compose in the time of a plan of a thousand: two seconds where one takes 66 ms.
COMPOSED = 30


def write_sweep(folder: Path, runs: int) -> Path:
    """A sweep of about ``runs`` runs: methods that draw x training sets with settings of their own x five
    seeds. Methods are left out so that it does not grow with their number."""
    import yaml

    from harness.registry.cards import read_card
    from harness.registry.methods import entries

    methods = [name for name, entry in entries().items() if read_card(entry).track != "sft-then-rl"]
    seeds, shipped = [1, 2, 3, 4, 5], yaml.safe_load((ROOT / "sweeps" / "micro.yaml").read_text())
    wanted = max(1, round(runs / (len(methods) * len(seeds))))
    methods = methods[: max(1, runs // (wanted * len(seeds)))]
    sets = {
        f"set-{i:02d}": {"benchmark": "micro", "rollout.max_response_tokens": 8 + i} for i in range(wanted)
    }
    body = {
        "methods": methods, "seeds": seeds, "training_sets": sets, "base_temperatures": [],
        "settings": {"model.path": "micro", "train": {"steps": 100, "token_budget": 110000, "lr": 3e-5}},
        "per_method": {name: own for name, own in shipped["per_method"].items() if name in methods},
    }  # fmt: skip
    path = folder / "thousand.yaml"
    path.write_text(yaml.safe_dump(body, sort_keys=False))
    return path


def plan_once(path: Path, runs_dir: Path) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds (user + system) and runs of one plan in a process of its own."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "entrobench", "sweep", "plan", str(path), f"runs_dir={runs_dir}"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    count = next(line for line in done.stdout.splitlines() if " runs: " in line)
    return wall, cpu, int(count.split()[0])


def hydra_compose_s(times: int = 10) -> float:
    """CPU seconds of one run composed by Hydra."""
    from harness.config.schema import RunConfig
    from harness.registry.methods import load
    from tests.helpers.hydra_reference import hydra_composed

    words = [
        "runs_dir=runs",
        "model.path=micro",
        "train.steps=100",
        "train.token_budget=110000",
        "train.lr=3e-5",
    ]
    method = load("grpo")
    hydra_composed(words, RunConfig, method)
    start = time.process_time()
    for _ in range(times):
        hydra_composed(words, RunConfig, method)
    return (time.process_time() - start) / times


def measure(runs: int, times: int) -> dict[str, float]:
    """Medians over ``times`` plans, each without a kept plan."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_sweep(folder, runs)
        plan_once(path, folder / "warm")  # byte code and the file cache, as on any machine in use
        found = [plan_once(path, folder / f"runs-{i}") for i in range(times)]
    a_run, cpu = hydra_compose_s(), median(cpu for _, cpu, _ in found)
    return {
        "runs": found[0][2],
        "plan_wall_s": round(median(wall for wall, _, _ in found), 3),
        "plan_cpu_s": round(cpu, 3),
        "hydra_compose_a_run_s": round(a_run, 4),
        "ratio_if_every_run_were_composed": round(a_run * found[0][2] / cpu, 1),
    }


if __name__ == "__main__":
    wanted = [int(word) for word in sys.argv[1:]]
    print(json.dumps(measure(*(wanted + [1000, 5][len(wanted) :])), indent=1))
