"""Batches of given log ratios, and what a loss makes of them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from harness.problems.problem import Problem
from harness.registry import methods as registry
from harness.stages.aggregate import aggregate
from harness.stages.base import Loss
from harness.stages.batch import Batch


def batch_of(
    log_ratio: list[list[float]], advantage: list[float], logp: float = -1.0
) -> tuple[Batch, Tensor]:
    """Responses of given log ratios, right-padded, and the current log-probs."""
    rows, width = len(log_ratio), max(map(len, log_ratio))
    mask = torch.zeros(rows, width, dtype=torch.bool)
    old = torch.zeros(rows, width, dtype=torch.float64)
    for i, values in enumerate(log_ratio):
        mask[i, : len(values)] = True
        old[i, : len(values)] = logp - torch.tensor(values, dtype=torch.float64)
    advantage_B = torch.tensor(advantage, dtype=torch.float64)
    batch = Batch(
        prompt_BP=torch.zeros(rows, 1, dtype=torch.long),
        prompt_mask_BP=torch.ones(rows, 1, dtype=torch.bool),
        response_BT=torch.zeros(rows, width, dtype=torch.long), mask_BT=mask,
        group_B=torch.zeros(rows, dtype=torch.long), sample_B=torch.arange(rows),
        temperature_B=torch.ones(rows), truncated_B=torch.zeros(rows, dtype=torch.bool),
        rollout_logp_BT=torch.zeros(rows, width), problems=(Problem("p", "?"),) * rows, texts=("",) * rows,
        old={"logp": old}, advantage_BT=advantage_B[:, None] * mask,
    )  # fmt: skip
    return batch, torch.where(mask, logp, 0.0).double()


def loss_of(name: str, values: dict[str, Any], batch: Batch, logp: Tensor, **options: Any) -> Any:
    """Loss, gradient and metrics of a method's loss stage."""
    stage = registry.load(name)(**values).stages().loss
    leaf = logp.clone().requires_grad_()
    prepared = stage.prepare(batch, {"logp": leaf.detach()})
    per_token = stage(batch, {"logp": leaf}, prepared.value)
    loss = aggregate(stage.aggregation, per_token, batch.mask_BT.double(), length_eps=0.0, **options)
    (grad,) = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), grad, prepared.metrics


def rows(advantage_BT: Tensor, old_BT: Tensor, **fields: Tensor) -> Batch:
    size, width = advantage_BT.shape
    number = torch.zeros(size)
    return Batch(
        prompt_BP=torch.zeros(size, 1, dtype=torch.long),
        prompt_mask_BP=torch.ones(size, 1, dtype=torch.bool),
        response_BT=torch.zeros(size, width, dtype=torch.long),
        mask_BT=fields.pop("mask_BT", torch.ones(size, width, dtype=torch.bool)),
        group_B=number.long(), sample_B=number.long(), temperature_B=number, truncated_B=number.bool(),
        rollout_logp_BT=old_BT, problems=(Problem("p", "?"),) * size, texts=("",) * size,
        old={"logp": old_BT}, advantage_BT=advantage_BT, **fields,
    )  # fmt: skip


def value_and_gradient(stage: Loss, batch: Batch, logp_BT: Tensor) -> tuple[float, list[float]]:
    leaf = logp_BT.clone().requires_grad_()
    prepared = stage.prepare(batch, {"logp": leaf.detach()}).value
    loss = aggregate("token-mean", stage(batch, {"logp": leaf}, prepared), batch.mask_BT)
    (grad,) = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), grad[0].tolist()


def logs(*ratios: float) -> list[float]:
    return [math.log(r) for r in ratios]
