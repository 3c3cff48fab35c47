"""MinPRO: prefix minimum, weights and loss, with the running minimum seeded and not."""

from __future__ import annotations

import math

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.loss import FixedBounds
from harness.stages.ratios import PrefixMinimumRatio, prefix_minimum
from harness.stages.score import BoundedWeight, score_loss
from tests.methods.support.golden import loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, logp = case.hp, tensor(case, "mask"), tensor(case, "logp")
    old = tensor(case, "old_logp")
    batch = make_batch(mask, old={"logp": old}, advantage_BT=tensor(case, "advantages") * mask)
    out = {"out_prefix_min": prefix_minimum(logp - old, mask).exp().numpy()}
    for suffix, at_most in (("", math.inf), ("_init1", 0.0)):
        weight = BoundedWeight(
            "minpro", PrefixMinimumRatio(at_most=at_most), FixedBounds(hp["eps_low"], hp["eps_high"])
        )
        loss, grad, prepared, _ = loss_and_grad(score_loss(weight), batch, logp)
        out |= {
            f"out_loss{suffix}": loss,
            f"out_grad_logp{suffix}": grad,
            f"out_weights{suffix}": prepared["weight"].numpy(),
        }
    return out
