"""Clip-low / clip-high: the losses in two reductions and the masks of both events."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.defaults import group_normalised
from harness.stages.loss import FixedBounds, PolicyLoss, clipped_tokens, log_ratio
from tests.methods.support.golden import AGGREGATION, loss_and_grad, make_batch, spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    logp, old = tensor(case, "logp"), tensor(case, "old_logp")
    advantage = spread(
        group_normalised(
            tensor(case, "rewards"), tensor(case, "groups"), eps=hp["std_eps"], ddof=hp["std_ddof"]
        ),
        mask,
    )
    batch = make_batch(mask, old={"logp": old}, advantage_BT=advantage)
    bounds = FixedBounds(hp["eps_low"], hp["eps_high"])
    clipped, _ = clipped_tokens(log_ratio(logp, old).exp(), advantage, 1 - hp["eps_low"], 1 + hp["eps_high"])
    out: dict[str, object] = {
        "out_advantages": advantage,
        "out_low_clip_mask": (clipped & (advantage < 0)).to(mask.dtype),
        "out_high_clip_mask": (clipped & (advantage > 0)).to(mask.dtype),
    }
    for key in ("token_mean", "seq_mean_token_mean"):
        stage = PolicyLoss(bounds=bounds, dual_clip=hp["clip_c"], aggregation=AGGREGATION[key])
        loss, grad = loss_and_grad(stage, batch, logp)[:2]
        out |= {f"out_loss_{key}": loss, f"out_grad_logp_{key}": grad}
    return {k: np.asarray(v) for k, v in out.items()}
