"""DPPO: both divergences and their masks, the capped weights and losses, prime-rl's loss."""

from __future__ import annotations

import math

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.loss import AbsoluteBounds, FixedBounds, PolicyLoss
from harness.stages.ratios import BehaviourRatio
from harness.stages.score import score_loss
from harness.stages.trust_region import binary_kl, probability_change
from methods.dppo import SquaredLogRatio, TrustedTokens, TrustedWeight
from tests.methods.support.golden import loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, logp = case.hp, tensor(case, "mask"), tensor(case, "logp")
    sampled = tensor(case, "old_logp")
    batch = make_batch(
        mask, old={"logp": sampled}, rollout_logp_BT=sampled, advantage_BT=tensor(case, "advantages")
    )
    cap = AbsoluteBounds(0.0, math.inf if hp["ratio_cap"] is None else hp["ratio_cap"])
    out: dict[str, object] = {
        "out_divergence_tv": probability_change(logp, sampled),
        "out_divergence_kl": binary_kl(logp, sampled, hp["kl_prob_eps"]),
    }
    for kind in ("tv", "kl"):
        weight = TrustedWeight(
            "dppo", BehaviourRatio(hp["log_ratio_clamp"]), cap, kind,
            hp[f"{kind}_delta_low"], hp[f"{kind}_delta_high"], eps=hp["kl_prob_eps"],
        )  # fmt: skip
        loss, grad, prepared, _ = loss_and_grad(
            score_loss(weight, hp["loss_agg_mode"]), batch, logp, width=hp["loss_scale_factor"]
        )
        kept = weight.kept(batch, {"logp": logp})
        dropped = aggregate("token-mean", (~kept).to(mask.dtype), mask, count_eps=1e-8)
        out |= {
            f"out_mask_{kind}": kept,
            f"out_weights_{kind}": prepared["weight"],
            f"out_loss_{kind}": loss,
            f"out_grad_logp_{kind}": grad,
            f"out_clipfrac_{kind}": dropped,
        }
    ratio, unbounded = BehaviourRatio(None), FixedBounds(math.inf, math.inf)
    tokens = TrustedTokens(
        "dppo", ratio, delta_low=hp["prime_mask_low"], delta_high=hp["prime_mask_high"],
        scale=hp["prime_adv_tau"],
    )  # fmt: skip
    loss, grad = loss_and_grad(PolicyLoss(ratio, unbounded, tokens, aggregation="token-mean"), batch, logp)[
        :2
    ]
    pull = SquaredLogRatio(hp["prime_kl_tau"])
    square, square_grad = loss_and_grad(pull, batch, logp)[:2]
    out |= {
        "out_mask_prime": tokens.kept(batch, {"logp": logp}),
        "out_loss_prime": loss + pull.coefficient() * square,
        "out_grad_logp_prime": grad + pull.coefficient() * square_grad,
    }
    return {k: np.asarray(v) for k, v in out.items()}
