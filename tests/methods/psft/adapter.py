"""PSFT: advantage 1 on demonstrations, the clipped loss and its gradient."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.demonstrations import UnitAdvantage
from methods.psft import PSFT
from tests.methods.support.golden import (
    VERL_ROWS,
    loss_and_grad,
    make_batch,
    plain_context,
    spread,
    tensor,
)


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    aggregation = case.meta["aggregation"].split()[0]
    stage = PSFT(
        eps_low=hp["clip_low"], eps_high=hp["clip_high"], dual_clip=hp["clip_ratio_c"],
        aggregation=aggregation,
    ).clipped_loss()  # fmt: skip
    batch = make_batch(mask, old={"logp": tensor(case, "old_logp")})
    advantage = spread(UnitAdvantage()(batch, plain_context(mask)).value.double(), mask)
    how = {"count_eps": 1e-8} if aggregation == "token-mean" else VERL_ROWS
    loss, grad, *_ = loss_and_grad(stage, batch.with_(advantage_BT=advantage), tensor(case, "logp"), **how)
    return {"out_advantages": advantage.numpy(), "out_loss": loss, "out_grad_logp": grad}
