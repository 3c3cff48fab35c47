"""Clip-Cov: covariance, candidates, the draw, loss and gradient."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from methods.clip_cov import CovarianceClip, covariance
from tests.methods.support.golden import loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    logp, old, advantage = (tensor(case, n) for n in ("logp", "old_logp", "advantages"))
    # the stored permutation as one random number per token: the first of the permutation is the smallest
    places, perm = tensor(case, "candidates"), tensor(case, "perm")
    draw = torch.full_like(logp, float(len(perm)))
    row, column = places[perm].T
    draw[row, column] = torch.arange(len(perm), dtype=draw.dtype)
    batch = make_batch(mask, old={"logp": old}, advantage_BT=advantage, draw_BT=draw)
    weight = CovarianceClip(
        hp["clip_cov_ratio"], hp["clip_cov_lb"], hp["clip_cov_ub"], hp["clip_low"], hp["clip_high"],
        hp["mean_eps"],
    )  # fmt: skip
    bounds = FixedBounds(hp["clip_low"], hp["clip_high"])
    stage = PolicyLoss(TokenRatio(None), bounds, weight, aggregation="token-mean")
    loss, grad, prepared, _ = loss_and_grad(stage, batch, logp, count_eps=hp["mean_eps"])

    def mean(value: torch.Tensor) -> torch.Tensor:
        return aggregate("token-mean", value, mask, count_eps=hp["mean_eps"])

    out = {
        "out_loss": loss,
        "out_grad_logp": grad,
        "out_mask": prepared["weight"],
        "out_cov": covariance(logp, advantage, mask, hp["mean_eps"]),
        "out_clipfrac": mean(1 - prepared["weight"]),
        "out_ppo_kl": mean(old - logp),
    }
    return {k: np.asarray(v) for k, v in out.items()}
