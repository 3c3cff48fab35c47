"""M2PO: the paper's mask and loss, the release's bounds and loss, AReaL's mask and loss."""

from __future__ import annotations

import math

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio, clipped_tokens
from harness.stages.ratios import BehaviourRatio
from methods.m2po import MomentBounds, MomentMask, within_budget
from tests.methods.support.golden import loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, logp = case.hp, tensor(case, "mask"), tensor(case, "logp")
    sampled, before = tensor(case, "old_logp"), tensor(case, "prox_logp")
    advantage, budget = tensor(case, "advantages"), hp["m2_threshold"]
    batch = make_batch(mask, old={"logp": before}, rollout_logp_BT=sampled, advantage_BT=advantage)
    paper = PolicyLoss(
        BehaviourRatio(hp["log_ratio_clip"], straight=True), FixedBounds(math.inf, math.inf),
        MomentMask(budget), aggregation="token-mean",
    )  # fmt: skip
    loss, grad, prepared, metrics = loss_and_grad(paper, batch, logp)
    out: dict[str, object] = {
        "out_mask": prepared["weight"],
        "out_m2_before": metrics["m2po/before"],
        "out_m2_after": metrics["m2po/after"],
        "out_loss": loss,
        "out_grad_logp": grad,
    }
    floors, eps = (hp["miniclip_low"], hp["miniclip_high"]), hp["released_token_eps"]
    released = PolicyLoss(BehaviourRatio(None), MomentBounds(budget, floors, eps), aggregation="token-mean")
    loss, grad, prepared, _ = loss_and_grad(released, batch, logp, count_eps=hp["released_denominator_eps"])
    ratio = (logp - sampled).exp()
    clipped, _ = clipped_tokens(ratio, advantage, prepared["low"], prepared["high"])
    out |= {
        "out_clip_low_released": 1 - prepared["low"],
        "out_clip_high_released": prepared["high"] - 1,
        "out_loss_released": loss,
        "out_grad_logp_released": grad,
        "out_clipfrac_released": aggregate(
            "token-mean", clipped.to(mask.dtype), mask, count_eps=hp["released_denominator_eps"]
        ),
    }
    kept = within_budget((before - sampled) ** 2, mask.bool(), budget, strict=True, least=1)
    eps_clip = hp["areal_eps_clip"]
    areal = PolicyLoss(TokenRatio(None), FixedBounds(eps_clip, eps_clip), aggregation="token-mean")
    loss, grad = loss_and_grad(areal, batch.with_(loss_mask_BT=kept), logp)[:2]
    out |= {"out_mask_areal": kept, "out_loss_areal": loss, "out_grad_logp_areal": grad}
    return {k: np.asarray(v) for k, v in out.items()}
