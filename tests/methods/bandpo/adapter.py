"""BandPO: the bounds by three divergences, and the clipped losses with them."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.loss import PolicyLoss, TokenRatio, clipped_tokens, log_ratio
from harness.stages.trust_region import BANDS
from methods.bandpo import ProbabilityBand
from tests.methods.support.golden import loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, logp = case.hp, tensor(case, "mask"), tensor(case, "logp")
    old, advantage = tensor(case, "old_logp"), tensor(case, "advantages")
    batch = make_batch(mask, old={"logp": old}, advantage_BT=advantage)
    relaxed = (hp["eps_low"], hp["eps_high"]) if hp["relax_high_p_bound"] else None
    ratio = log_ratio(logp, old, hp["log_ratio_clamp"]).exp()
    added = {"length_eps": hp["denominator_eps"], "count_eps": hp["denominator_eps"]}
    out: dict[str, object] = {}
    for kind in BANDS:
        bounds = ProbabilityBand(
            kind, hp["delta"], hp["upper_bound_max"], relaxed, hp["p_limit"], hp["p_floor"]
        )
        stage = PolicyLoss(
            TokenRatio(hp["log_ratio_clamp"]), bounds, dual_clip=hp["clip_c"], aggregation=hp["loss_agg_mode"]
        )
        loss, grad, prepared, _ = loss_and_grad(stage, batch, logp, **added)
        clipped, _ = clipped_tokens(ratio, advantage, prepared["low"], prepared["high"])
        out |= {
            f"out_lower_{kind}": prepared["low"],
            f"out_upper_{kind}": prepared["high"],
            f"out_loss_{kind}": loss,
            f"out_grad_logp_{kind}": grad,
            f"out_clipfrac_{kind}": aggregate("token-mean", clipped.to(mask.dtype), mask, count_eps=1e-8),
        }
    return {k: np.asarray(v) for k, v in out.items()}
