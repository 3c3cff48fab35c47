"""CISPO: weights, the losses with them in two reductions, the clip fraction; TRL's absolute cap."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.defaults import group_normalised
from harness.stages.loss import AbsoluteBounds, PolicyLoss, TokenRatio, log_ratio
from harness.stages.score import BoundedWeight, bounded
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
    floor, cap = 1 - hp["eps_is_low"], 1 + hp["eps_is_high"]
    token_ratio = TokenRatio(hp["log_ratio_clamp"])

    def stage(floor: float, cap: float, aggregation: str) -> PolicyLoss:
        weight = BoundedWeight("cispo", token_ratio, AbsoluteBounds(floor, cap))
        return PolicyLoss(weight=weight, surrogate="score", aggregation=aggregation)

    ratio = log_ratio(logp, old, hp["log_ratio_clamp"]).exp()
    weight = bounded(ratio, floor, cap)
    out: dict[str, object] = {
        "out_advantages": advantage,
        "out_weights": weight,
        "out_clipfrac": aggregate("token-mean", (weight != ratio).to(mask.dtype), mask),
    }
    for key in ("token_mean", "seq_mean_token_mean"):
        loss, grad = loss_and_grad(stage(floor, cap, AGGREGATION[key]), batch, logp)[:2]
        out |= {f"out_loss_{key}": loss, f"out_grad_logp_{key}": grad}
    loss, grad = loss_and_grad(stage(0.0, hp["trl_eps_max"], "token-mean"), batch, logp)[:2]
    out |= {"out_loss_trl": loss, "out_grad_logp_trl": grad}
    return {k: np.asarray(v) for k, v in out.items()}
