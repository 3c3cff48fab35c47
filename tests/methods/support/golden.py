"""What the adapters share: arrays as float64 tensors, a batch around them, a loss with its gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.problems.problem import Problem, Verdict
from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.base import Loss, StepContext
from harness.stages.batch import Batch

#: TRL's row mean: exact lengths, and rows without a response token count.
TRL_ROWS: dict[str, Any] = {"length_eps": 0.0, "empty_rows": True}

#: The row mean of verl before it left empty rows out: exact lengths, and a plain mean over all rows.
VERL_ROWS = TRL_ROWS

AGGREGATION = {
    "token_mean": "token-mean",
    "seq_mean_token_mean": "seq-mean-token-mean",
    "seq_mean_token_sum": "seq-mean-token-sum",
    "seq_mean_token_sum_norm": "seq-mean-token-sum-norm",
}


def tensor(case: GoldenCase, name: str) -> Tensor:
    return torch.from_numpy(np.array(case[name]))


def answer_strings(case: GoldenCase, missing: int | None = None) -> list[str | None]:
    """The stored answers, which are numbers, as strings; None where one is ``missing``."""
    return [None if number == missing else str(number) for number in case["answers"].tolist()]


def spread(value_B: Tensor, mask_BT: Tensor) -> Tensor:
    """A value per row on its tokens, 0 on padding."""
    return value_B[:, None] * mask_BT


def make_batch(mask_BT: Tensor, **fields: Any) -> Batch:
    """A batch around the stored arrays; what a case does not hold is a placeholder."""
    rows, width = mask_BT.shape
    correct = fields.pop("correct_B", torch.zeros(rows))
    values: dict[str, Any] = {
        "prompt_BP": torch.zeros(rows, 1, dtype=torch.int64),
        "prompt_mask_BP": torch.ones(rows, 1, dtype=torch.bool),
        "response_BT": torch.zeros(rows, width, dtype=torch.int64),
        "mask_BT": mask_BT.bool(),
        "group_B": torch.zeros(rows, dtype=torch.int64),
        "sample_B": torch.zeros(rows, dtype=torch.int64),
        "temperature_B": torch.ones(rows),
        "truncated_B": torch.zeros(rows, dtype=torch.bool),
        "rollout_logp_BT": torch.zeros(rows, width),
        "problems": (Problem("p", "?"),) * rows,
        "texts": ("",) * rows,
        "verdicts": tuple(Verdict("right" if c > 0 else "wrong") for c in correct.tolist()),
    }
    return Batch(**{**values, **fields})


def plain_context(mask_BT: Tensor, **changes: Any) -> StepContext:
    """The context of a first step, for stages that hardly look at it."""
    values: dict[str, Any] = dict(
        step=1, fraction=0.0, total_steps=1, seed=0, prompts_per_step=1, group_size=1,
        max_response_tokens=mask_BT.shape[1], temperature=1.0,
    )  # fmt: skip
    return StepContext(**{**values, **changes})


def loss_and_grad(
    stage: Loss, batch: Batch, logp_BT: Tensor, **options: Any
) -> tuple[np.ndarray, np.ndarray, dict[str, Tensor], Mapping[str, float]]:
    """The aggregated loss of a stage, its gradient, what it prepared and its metrics."""
    leaf = logp_BT.clone().requires_grad_()
    stats = {"logp": leaf}
    with torch.no_grad():
        prepared = stage.prepare(batch, stats)
    loss = aggregate(stage.aggregation, stage(batch, stats, prepared.value), batch.train_mask_BT, **options)
    (grad,) = torch.autograd.grad(loss, leaf)
    return loss.detach().numpy(), grad.numpy(), prepared.value, prepared.metrics
