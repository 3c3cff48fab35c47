"""A-GRAE: the step's success rate, advantages, loss and gradient."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.loss import FixedBounds, PolicyLoss
from methods.a_grae import AsymmetricAdvantage
from tests.methods.support.golden import VERL_ROWS, loss_and_grad, make_batch, plain_context, spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    scale = "group" if hp["norm_adv_by_std_in_grpo"] else "none"
    batch = make_batch(
        mask, old={"logp": tensor(case, "old_logp")}, reward_B=tensor(case, "rewards"),
        group_B=tensor(case, "groups"),
    )  # fmt: skip
    made = AsymmetricAdvantage(hp["alpha"], scale, hp["epsilon"])(batch, plain_context(mask))
    advantage = spread(made.value, mask)
    stage = PolicyLoss(
        bounds=FixedBounds(*(hp.get(f"clip_ratio_{side}", hp["clip_ratio"]) for side in ("low", "high"))),
        dual_clip=hp["clip_ratio_c"], aggregation=hp["loss_agg_mode"],
    )  # fmt: skip
    loss, grad = loss_and_grad(stage, batch.with_(advantage_BT=advantage), tensor(case, "logp"), **VERL_ROWS)[
        :2
    ]
    out = {
        "out_advantages": advantage,
        "out_batch_mean": made.metrics["a_grae/mean"],
        "out_loss": loss,
        "out_grad_logp": grad,
    }
    return {k: np.asarray(v) for k, v in out.items()}
