"""Train the tiny model for a few steps and keep the numbers; alone, or in each process that torchrun starts.

torchrun --nproc-per-node 2 -m tests.helpers.together OUT METHOD [METHOD ...]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from harness.distributed.world import joined, world
from harness.model.sharding import whole
from tests.helpers.tiny import tiny_folder, tiny_trainer

#: Groups and rows that no number of processes divides evenly, and minibatches of several passes.
SETTINGS = (
    "rollout.prompts_per_step=5", "rollout.group_size=3", "train.micro_batch_rows=2", "train.lr=3e-5",
    "rollout.temperature=0.9",
)  # fmt: skip
#: Plain GRPO goes over its rollouts twice. The others once: two minibatches are two updates already, and
#: a second epoch is the same lines again, whoever shares them.
TWICE, ONCE = "train.epochs=2", "train.epochs=1"
STEPS = 2


def numbers(method: str) -> dict[str, Any]:
    """Metrics of each step, gradient of the last update, and the weights at the end."""
    name, *own = method.split("+")
    trainer = tiny_trainer(*SETTINGS, TWICE if name == "grpo" else ONCE, *own, method=name)
    metrics = [trainer.step() for _ in range(STEPS)]
    return {
        "metrics": metrics,
        "gradient": {
            n: whole(p.grad).clone() for n, p in trainer.policy.model.named_parameters() if p.grad is not None
        },
        "weights": trainer.policy.weights(),
    }


def main(out: str, *methods: str) -> None:
    tiny_folder()  # transformers saves on the first process only once they have joined
    with joined("cpu"):
        for method in methods:
            result = numbers(method)
            torch.save(result, Path(out) / f"{method}-{world().rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
