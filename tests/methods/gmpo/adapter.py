"""GMPO: the one-sided clip, the responses' ratios, verl's and TRL's losses, the shares outside the band."""

from __future__ import annotations

import math

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.loss import AbsoluteBounds, TokenRatio
from methods.gmpo import GeometricMeanLoss, clipped_log_ratio, mean_log_ratio
from tests.methods.support.golden import TRL_ROWS, loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, logp = case.hp, tensor(case, "mask"), tensor(case, "logp")
    old, advantage, eps = tensor(case, "old_logp"), tensor(case, "advantages"), hp["length_eps"]
    batch = make_batch(mask, old={"logp": old}, advantage_BT=advantage)
    bounds = AbsoluteBounds(math.exp(-hp["eps_low"]), math.exp(hp["eps_high"]))
    verl, trl = (GeometricMeanLoss(TokenRatio(None), bounds, length_eps=e) for e in (eps, 0.0))
    loss, grad = loss_and_grad(verl, batch, logp, length_eps=eps, empty_rows=True)[:2]
    loss_trl, grad_trl = loss_and_grad(trl, batch, logp, **TRL_ROWS)[:2]
    # TRL's row without a token has ratio 1 and counts its advantage
    empty = tensor(case, "advantages_seq") * (mask.sum(1) == 0)

    clipped = clipped_log_ratio(logp - old, advantage, -hp["eps_low"], hp["eps_high"])
    outside = (logp - old < -hp["eps_low"]) | (logp - old > hp["eps_high"])

    def share(sign: int) -> object:
        where = (outside & (sign * advantage > 0)).to(mask.dtype)
        return aggregate("token-mean", where, mask)

    out = {
        "out_clipped_log_ratio": clipped,
        "out_ratio": mean_log_ratio(clipped, mask, eps)[:, 0].exp(),
        "out_loss": loss,
        "out_grad_logp": grad,
        "out_loss_trl": loss_trl - empty.mean().numpy(),
        "out_grad_logp_trl": grad_trl,
        "out_clipfrac": share(1),
        "out_clipfrac_lower": share(-1),
    }
    return {k: np.asarray(v) for k, v in out.items()}
