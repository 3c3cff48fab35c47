"""Evaluate the tiny model on two sets; alone, or in each process that torchrun starts.

torchrun --nproc-per-node 2 -m tests.helpers.together_eval FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from harness.distributed.world import joined, world
from harness.evaluation.in_run import evaluate_benchmarks
from harness.model.policy import load_policy

#: Problems that two processes do not share evenly.
PROBLEMS = 5


def evaluated(model: Path, folder: Path) -> dict[str, Any]:
    """The entries of a result; samples stand in ``folder``."""
    from tests.helpers.tiny import small_run

    run = small_run(
        "eval.benchmarks=[gsm8k,aime24]", "eval.profile_settings=[n:4,max_tokens:8]", "eval.batch_rows=8"
    )
    policy = load_policy(model)
    if world().size > 1:
        policy.network.shard()
    return evaluate_benchmarks(run, policy, folder, seed=1, on_progress=lambda *progress: None)


def main(model: str, out: str) -> None:
    with joined("cpu"):
        result = evaluated(Path(model), Path(out) / "eval")
        (Path(out) / f"result-{world().rank}.json").write_text(json.dumps(result, sort_keys=True))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
