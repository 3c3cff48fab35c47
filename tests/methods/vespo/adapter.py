"""VESPO: the responses' weights, the bump on them and the loss, with and without the sampler's ratio."""

from __future__ import annotations

import math

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.loss import FixedBounds, PolicyLoss
from methods.vespo import BumpWeight
from tests.methods.support.golden import loss_and_grad, make_batch, spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, logp = case.hp, tensor(case, "mask"), tensor(case, "logp")
    old = tensor(case, "old_logp")
    batch = make_batch(
        mask,
        old={"logp": old},
        advantage_BT=spread(tensor(case, "advantages_seq"), mask),
        # a sampler such that old / sampler is the stored ratio
        rollout_logp_BT=old - tensor(case, "is_ratio").log(),
    )
    out: dict[str, object] = {}
    for suffix, cap in (("", None), ("_tis", math.inf)):
        weight = BumpWeight(
            (hp["k_pos"], hp["lambda_pos"]), (hp["k_neg"], hp["lambda_neg"]), cap,
            hp["log_clamp"], hp["w_floor"], hp["lambda_floor"],
        )  # fmt: skip
        unbounded = FixedBounds(math.inf, math.inf)
        stage = PolicyLoss(bounds=unbounded, weight=weight, surrogate="score", aggregation="token-mean")
        loss, grad, prepared, _ = loss_and_grad(stage, batch, logp)
        out |= {
            f"out_log_w{suffix}": weight.log_weight(batch, {"logp": logp}),
            f"out_phi{suffix}": prepared["weight"][:, 0],
            f"out_loss{suffix}": loss,
            f"out_grad_logp{suffix}": grad,
        }
    return {k: np.asarray(v) for k, v in out.items()}
