"""DISPO: the weights of right and wrong responses, the loss with them in two reductions."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.loss import TokenRatio
from harness.stages.score import score_loss
from methods.dispo import BoundsBySign, WeightBySign
from tests.methods.support.golden import AGGREGATION, loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, logp = case.hp, tensor(case, "mask"), tensor(case, "logp")
    batch = make_batch(
        mask, old={"logp": tensor(case, "old_logp")}, advantage_BT=tensor(case, "advantages") * mask
    )
    bounds = BoundsBySign((hp["eps_low_pos"], hp["eps_high_pos"]), (hp["eps_low_neg"], hp["eps_high_neg"]))
    weight = WeightBySign("dispo", TokenRatio(clamp=None), bounds)
    out: dict[str, np.ndarray] = {}
    for key in ("token_mean", "seq_mean_token_mean"):
        loss, grad, prepared, _ = loss_and_grad(score_loss(weight, AGGREGATION[key]), batch, logp)
        out |= {f"out_loss_{key}": loss, f"out_grad_logp_{key}": grad}
    return out | {"out_weights": prepared["weight"].numpy()}
