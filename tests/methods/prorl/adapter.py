"""ProRL: which groups are kept, the clipped loss and the KL of those, and their sum."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from harness.stages.regularise import ReferenceKL
from methods.dapo import mixed_groups
from tests.methods.support.golden import loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, logp = case.hp, tensor(case, "mask"), tensor(case, "logp")
    keep = mixed_groups(tensor(case, "rewards"), tensor(case, "groups"))
    policy = PolicyLoss(
        TokenRatio(hp["log_ratio_clamp"]),
        FixedBounds(hp["clip_low"], hp["clip_high"]),
        dual_clip=hp["clip_c"],
        aggregation="token-mean",
    )
    kl = ReferenceKL(
        hp["kl_coef"], "k3", "token-mean", exponent_clamp=hp["kl_exponent_clamp"],
        value_clamp=hp["kl_value_clamp"],
    )  # fmt: skip
    batch = make_batch(
        mask, old={"logp": tensor(case, "old_logp")}, ref_logp_BT=tensor(case, "ref_logp"),
        advantage_BT=tensor(case, "advantages"), loss_mask_BT=mask.bool() & keep[:, None],
    )  # fmt: skip
    loss, grad = loss_and_grad(policy, batch, logp)[:2]
    distance, pull = loss_and_grad(kl, batch, logp)[:2]
    return {
        "out_keep_mask": keep.to(mask.dtype).numpy(),
        "out_pg_loss": loss,
        "out_kl": distance,
        "out_loss": loss + kl.coefficient() * distance,
        "out_grad_logp": grad + kl.coefficient() * pull,
    }
