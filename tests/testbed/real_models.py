"""Real models on the leaderboard's sets, by vLLM on the CPU: ``python -m tests.testbed.real_models``.

    .venv-vllm/bin/python -m tests.testbed.real_models plan      # measures the speed; hours of each task
    .venv-vllm/bin/python -m tests.testbed.real_models run       # makes what is missing, one after the other
    .venv-vllm/bin/python -m tests.testbed.real_models engines   # hf and vllm on the same prompts
    .venv/bin/python -m tests.testbed.real_models page           # docs/real-models.md, from the records

The sets are read as always (``ENTROBENCH_DATA``, or the hub), and the models have to be prefetched. Every
task is one ``entrobench eval``: killed, it goes on where it was. Its record is then put into
``results/real/evaluations.jsonl``, without the places of files on the machine that made it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.model.gguf.packages import packaged_folder
from harness.util.errors import UserError
from harness.util.files import read_json, write_json, write_text
from harness.util.locks import locked

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "results" / "real" / "evaluations.jsonl"
ENGINES = RECORDS.with_name("engines.json")
#: Samples, and what was measured here.
WORK = ROOT / "build" / "real"
SMALL, LARGE = "smollm2-135m", "qwen2.5-coder-1.5b"
SIZES = {"gsm8k": 1319, "math500": 500, "amc23": 40, "aime24": 30, "aime25": 30}
#: Rows side by side and GiB of cache: more rows share a pass over the weights, and each takes its memory.
ENGINE = {SMALL: (32, 1.0), LARGE: (32, 2.5)}
#: GiB that have to be free before a task of a model begins: weights, cache, a prompt pass, and some air.
ROOM = {SMALL: 4.0, LARGE: 12.0}
GREEDY = ("max_tokens=1024",)
SAMPLED = ("temperature=0.6", "n=8", "k=1,2,4", "max_tokens=768")
#: Another template: what a gap to published figures may come from.
CHAT = ("template=chat-boxed",)


@dataclass(frozen=True)
class Task:
    """One evaluation.

    Attributes:
        limit: ``N@SEED`` of every set in it; empty for all problems.
        kind: ``greedy``, ``sampled`` or ``chat`` (greedy, with the changed template).
    """

    model: str
    sets: tuple[str, ...]
    limit: str
    kind: str

    @property
    def name(self) -> str:
        return f"{self.model} {self.kind} {','.join(self.sets)}"

    @property
    def changes(self) -> tuple[str, ...]:
        return {"greedy": GREEDY, "sampled": SAMPLED, "chat": (*GREEDY, *CHAT)}[self.kind]

    @property
    def problems(self) -> int:
        count = int(self.limit.partition("@")[0] or 0)
        return sum(min(count or SIZES[name], SIZES[name]) for name in self.sets)

    @property
    def responses(self) -> int:
        return self.problems * (8 if self.kind == "sampled" else 1)

    @property
    def most_tokens(self) -> int:
        """Tokens if every response were as long as it may be."""
        limit = next(w for w in self.changes if w.startswith("max_tokens="))
        return self.responses * int(limit.partition("=")[2])

    def words(self) -> list[str]:
        """What ``entrobench eval`` is given."""
        rows, cache = ENGINE[self.model]
        return [
            f"model={self.model}", f"benchmark={','.join(self.sets)}", "profile=qwen-math", *self.changes,
            *([f"limit={self.limit}"] if self.limit else []), "engine=vllm", "device=cpu", "dtype=float32",
            f"engine.batch_rows={rows}", f"engine.kv_cache_gib={cache}", "engine.max_positions=2048",
        ]  # fmt: skip


CONTESTS = ("amc23", "aime24", "aime25")
TASKS = (
    Task(SMALL, ("gsm8k",), "100@1", "greedy"),
    Task(SMALL, ("math500",), "60@1", "greedy"),
    Task(SMALL, CONTESTS, "", "greedy"),
    Task(SMALL, ("gsm8k",), "100@1", "chat"),
    Task(SMALL, ("gsm8k",), "100@1", "sampled"),
    Task(SMALL, ("math500",), "60@1", "sampled"),
    Task(LARGE, ("gsm8k",), "100@1", "greedy"),
    Task(LARGE, ("math500",), "60@1", "greedy"),
    Task(SMALL, CONTESTS, "", "sampled"),
    Task(LARGE, ("gsm8k",), "100@1", "chat"),
    Task(LARGE, CONTESTS, "", "greedy"),
    Task(LARGE, ("gsm8k",), "30@1", "sampled"),
    Task(LARGE, ("amc23",), "", "sampled"),
)


def records() -> dict[str, dict[str, Any]]:
    """What was measured, by the name of its task."""
    if not RECORDS.exists():
        return {}
    rows = [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()]
    return {row["task"]: row for row in rows}


def keep(task: Task, record: Mapping[str, Any]) -> None:
    """Put a finished evaluation's record among the others."""
    found = records() | {task.name: portable(task, record)}
    order = [t.name for t in TASKS]
    rows = sorted(found.values(), key=lambda row: order.index(row["task"]))
    write_text(RECORDS, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))


def portable(task: Task, record: Mapping[str, Any]) -> dict[str, Any]:
    """A record that says nothing of where files were; its samples are named by their hashes."""
    row = json.loads(json.dumps(record)) | {"task": task.name}
    row["model"].pop("path")
    for entry in row["benchmarks"].values():
        entry["data"]["source"] = Path(entry["data"]["source"]).name
        for body in entry["draws"].values():
            del body["samples"]
    return dict(row)


def run_tasks(only: Sequence[str] = ()) -> int:
    """Make what is missing; a task that fails stops the rest."""
    for model in (SMALL, LARGE):
        packaged_folder(model)
    with locked(WORK / "run.lock", wait=False) as ours:
        if not ours:
            raise UserError(f"another process makes them already ({WORK / 'run.lock'})")
        for task in TASKS:
            if task.name in records() or (only and not any(word in task.name for word in only)):
                continue
            wait_for_room(task)
            if task.kind != "greedy" and not ENGINES.exists():  # short, and soon of interest
                _python("-m", "tests.testbed.real_models", "engines")
            started = time.time()
            print(f"{time.strftime('%H:%M:%S')} {task.name}: {task.responses} responses", flush=True)
            if code := run_task(task):
                return code
            print(f"{time.strftime('%H:%M:%S')} done in {(time.time() - started) / 60:.0f} min", flush=True)
    return 0


def wait_for_room(task: Task) -> None:
    """Wait until there is memory for ``task`` beside what else runs on the machine."""
    told = False
    while free_gib() < ROOM[task.model]:
        if not told:
            print(f"{task.name} waits for {ROOM[task.model]:g} GiB of free memory", flush=True)
        told = True
        time.sleep(60)


def free_gib() -> float:
    """Memory that is available here, GiB; without limit where the system does not say."""
    file = Path("/proc/meminfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    found = [int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else float("inf")


def run_task(task: Task) -> int:
    out = WORK / task.name.replace(" ", "-").replace(",", "+")
    code = _python("-m", "entrobench", "eval", *task.words(), f"out={out}")
    if code == 0:
        (path,) = out.glob("*/record.json")
        keep(task, read_json(path))
    return code


def _python(*words: str) -> int:
    """The exit code of this interpreter in a process of its own, which gives its memory back."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=False).returncode


def measured_speeds() -> dict[str, float]:
    """Tokens a second of processor time of each model, measured once on this machine."""
    path = WORK / "speed.json"
    found: dict[str, float] = read_json(path) if path.exists() else {}
    for model in (SMALL, LARGE):
        if model not in found:
            found[model] = round(_measure(model), 2)
            write_json(path, found)
    return found


def _measure(model: str) -> float:
    from harness.problems import templates
    from harness.registry import benchmarks
    from harness.rollout.engines.base import GenerationRequest, Sampling, open_engine

    rows, cache = ENGINE[model]
    engine = open_engine(
        "vllm", str(packaged_folder(model)), dtype="float32", device="cpu", max_positions=2048,
        batch_rows=rows, kv_cache_gib=cache,
    )  # fmt: skip
    template = templates.find("qwen-math")
    problems = benchmarks.load("gsm8k").problems("test")[:rows]
    asked = [
        GenerationRequest((p.id,), tuple(engine.encode(template.render(str(p.meta["question"])))))
        for p in problems
    ]
    start = time.process_time()
    drawn = sum(len(c.token_ids) for c in engine.generate(asked, Sampling(0.0, 1.0, 32)))
    seconds = time.process_time() - start
    engine.close()
    return drawn / seconds


def show_plan() -> int:
    """Print the tasks with their hours: at full length, and at half of it."""
    speeds, done, total = measured_speeds(), records(), 0.0
    print("tokens a second of processor time:", ", ".join(f"{k} {v:.0f}" for k, v in speeds.items()))
    for task in TASKS:
        hours = task.most_tokens / speeds[task.model] / 3600
        total += 0.0 if task.name in done else hours
        state = "done" if task.name in done else f"{hours / 2:.1f} to {hours:.1f} h"
        print(f"{task.name:<52} {task.responses:>5} responses, {task.most_tokens:>7} tokens at most: {state}")
    print(f"left: {total / 2:.1f} to {total:.1f} hours of one core")
    return 0


def main(words: Sequence[str]) -> int:
    what = words[0] if words else "plan"
    if what == "plan":
        return show_plan()
    if what == "run":
        return run_tasks(words[1:])
    if what == "engines":
        from tests.testbed.real_engines import compare

        return compare()
    if what == "page":
        from tests.testbed.real_page import write_page

        return write_page()
    raise UserError(f"'{what}' is not known; say plan, run, engines or page")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"real_models: {error}")
