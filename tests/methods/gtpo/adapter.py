"""GTPO: conflict runs and weights, entropy shaping, loss per response and its sum, gradient."""

from __future__ import annotations

import math

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.base import StepContext
from harness.stages.defaults import group_normalised
from harness.stages.loss import FixedBounds, PolicyLoss
from harness.stages.token_stats import LOGP
from methods.gtpo import (
    ConflictWeight,
    FlooredEntropy,
    MarkConflicts,
    NoRatio,
    PayForEntropy,
    conflict_runs,
    conflict_weights,
    run_divisor,
)
from tests.methods.support.golden import make_batch, spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, tokens = case.hp, tensor(case, "mask"), tensor(case, "tokens")
    group, pad = tensor(case, "groups"), int(case["pad_id"])
    base = group_normalised(tensor(case, "rewards"), group, scale="none")
    rows = len(mask)
    batch = make_batch(mask, group_B=group, response_BT=tokens, old={}, advantage_BT=spread(base, mask))
    context = StepContext(
        step=1, fraction=0.0, total_steps=1, seed=0, prompts_per_step=1, group_size=rows,
        max_response_tokens=mask.shape[1], temperature=1.0,
    )  # fmt: skip
    marked = MarkConflicts(hp["w_conflict"], True, pad)(batch, context).value
    entropy = FlooredEntropy(floor=hp["prob_floor"])
    leaf = tensor(case, "logits").requires_grad_()
    flat = leaf.reshape(-1, leaf.shape[-1])
    current = {s.name: s.compute(flat, tokens.reshape(-1)).reshape(tokens.shape) for s in (LOGP, entropy)}
    stage = PolicyLoss(
        NoRatio(), FixedBounds(math.inf, math.inf), ConflictWeight(),
        credit=PayForEntropy(hp["ent_scale"], hp["ent_threshold"], None, entropy),
    )  # fmt: skip
    with torch.no_grad():
        prepared = stage.prepare(marked, current).value
    per_token = stage(marked, current, prepared)
    loss = aggregate(stage.aggregation, per_token, mask, length_eps=0.0)
    (grad,) = torch.autograd.grad(loss, leaf)
    runs = conflict_runs(tokens, mask, base, group, pad)
    longest = torch.maximum(*runs)
    length = mask.sum(1).clamp(min=1)
    out = {
        "out_weights": conflict_weights(*runs, base, mask, hp["w_conflict"]),
        "out_conflict": (torch.arange(mask.shape[1]) < longest[:, None]).double(),
        "out_n_conflict": run_divisor(*runs) * (base != 0),
        "out_seq_entropy": (current[entropy.name].detach() * mask).sum(1) / length,
        "out_base_advantages": base,
        "out_advantages": prepared["advantage"][:, 0],
        "out_seq_loss": (per_token.detach() * mask).sum(1) / length / rows,
        "out_loss": loss.detach(),
        "out_grad_logits": grad,
    }
    return {k: np.asarray(v) for k, v in out.items()}
