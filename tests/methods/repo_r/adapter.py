"""REPO-R: rescaled advantages, the loss on them, and the controller from several starts."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from methods.repo_r import RescaledCredit, ZetaController
from tests.methods.support.golden import loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    logp, old, advantage = (tensor(case, n) for n in ("logp", "old_logp", "advantages"))
    batch = make_batch(mask, old={"logp": old}, advantage_BT=advantage)
    stage = PolicyLoss(
        TokenRatio(hp["log_ratio_clamp"]),
        FixedBounds(hp["clip_low"], hp["clip_high"]),
        credit=RescaledCredit(hp["zeta"], hp["logp_floor"]),
        dual_clip=hp["clip_ratio_c"] if hp["loss_type"] == "dual_clip" else None,
        aggregation="token-mean",
    )
    loss, grad, prepared, _ = loss_and_grad(stage, batch, logp)
    traces = []
    for start in case["trace_zeta_start"].tolist():
        control = ZetaController(start, hp["target_entropy"], hp["zeta_min"], hp["zeta_max"])
        traces.append([control.observe(h)["repo_r/zeta"] for h in case["trace_entropy"].tolist()])
    return {
        "out_advantages": np.asarray(prepared["advantage"]),
        "out_loss": loss,
        "out_grad_logp": grad,
        "out_zeta": np.asarray(traces),
    }
