"""STEER: entropy change, weights and weighted loss."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio, clipped_tokens, log_ratio
from methods.steer import EntropyChangeWeight, entropy_change
from tests.methods.support.golden import loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    logp, old, advantage, entropy = (tensor(case, n) for n in ("logp", "old_logp", "advantages", "entropy"))
    batch = make_batch(mask, old={"logp": old, "entropy": entropy}, advantage_BT=advantage)
    stage = PolicyLoss(
        TokenRatio(hp["log_ratio_clamp"]),
        FixedBounds(hp["clip_low"], hp["clip_high"]),
        EntropyChangeWeight(
            "linear" if hp["linear"] else "exponential",
            hp["w_min"],
            hp["w_max"],
            hp["p_floor"],
            hp["metric_max_floor"],
        ),
        dual_clip=hp["clip_c"],
        aggregation="token-mean",
    )
    loss, grad, prepared, _ = loss_and_grad(stage, batch, logp)
    ratio = log_ratio(logp, old, hp["log_ratio_clamp"]).exp()
    clipped, _ = clipped_tokens(ratio, advantage, 1 - hp["clip_low"], 1 + hp["clip_high"])
    out = {
        "out_loss": loss,
        "out_grad_logp": grad,
        "out_weights": prepared["weight"],
        "out_abs_metric": entropy_change(logp, old, entropy, advantage, hp["p_floor"]) * mask,
        "out_clipfrac": aggregate("token-mean", clipped.to(mask.dtype), mask),
    }
    return {k: np.asarray(v) for k, v in out.items()}
