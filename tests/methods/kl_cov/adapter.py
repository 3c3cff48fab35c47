"""KL-Cov: covariance, the penalised tokens, loss and gradient."""

from __future__ import annotations

import math

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from methods.kl_cov import CovarianceKL, covariance, distance
from tests.methods.support.golden import loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    logp, old, advantage = (tensor(case, n) for n in ("logp", "old_logp", "advantages"))
    batch = make_batch(mask, old={"logp": old}, advantage_BT=advantage)
    penalty = CovarianceKL(hp["k_percent"] / 100, hp["ppo_kl_coef"], rounding=0.0)
    policy = PolicyLoss(TokenRatio(None), FixedBounds(1.0, math.inf), aggregation="token-mean")
    eps = {"count_eps": hp["mean_eps"]}
    loss, grad, _, _ = loss_and_grad(policy, batch, logp, **eps)
    extra, extra_grad, prepared, _ = loss_and_grad(penalty, batch, logp, **eps)
    beta = penalty.coefficient()
    out = {
        "out_loss": loss + beta * extra,
        "out_grad_logp": grad + beta * extra_grad,
        "out_mask": prepared["chosen"],
        "out_cov": torch.where(mask > 0, covariance(logp, advantage, mask, eps=0.0), 0.0),
        "out_ppo_kl_abs": aggregate("token-mean", distance(logp, old, 0.0), mask, **eps),
    }
    return {k: np.asarray(v) for k, v in out.items()}
