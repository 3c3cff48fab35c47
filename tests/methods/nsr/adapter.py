"""PSR, NSR and W-REINFORCE: advantages, kept rows, loss and gradient."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.credit import at_last_token, returns_to_go
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from methods.nsr import OnlyVerdict, signed_returns
from tests.methods.support.golden import loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, reward = case.hp, tensor(case, "mask"), tensor(case, "rewards")
    returns = returns_to_go(at_last_token(reward, mask), mask, hp["gamma"])
    stage = PolicyLoss(
        TokenRatio(None),
        FixedBounds(hp["clip_low"], hp["clip_high"]),
        dual_clip=hp["clip_ratio_c"],
        aggregation="token-mean",
    )
    everything = make_batch(mask, old={"logp": tensor(case, "old_logp")}, correct_B=reward)
    out: dict[str, object] = {}
    for name, weight, right in (("psr", 1.0, True), ("nsr", 1.0, False), ("w", hp["positive_weight"], None)):
        credit = signed_returns(returns, reward, weight) * mask
        batch = everything.with_(advantage_BT=credit)
        rows = np.ones(len(mask), dtype=bool)
        if right is not None:
            rows = OnlyVerdict(right).keeps(batch).numpy()
            credit = credit * rows[:, None]
            out[f"out_rows_{name}"] = rows.astype(np.int64)
            batch = batch.rows(rows.nonzero()[0])
        grad = np.zeros(mask.shape)
        loss, grad[rows] = loss_and_grad(stage, batch, tensor(case, "logp")[rows], count_eps=hp["mean_eps"])[
            :2
        ]
        out |= {f"out_advantages_{name}": credit, f"out_loss_{name}": loss, f"out_grad_logp_{name}": grad}
    return {k: np.asarray(v) for k, v in out.items()}
