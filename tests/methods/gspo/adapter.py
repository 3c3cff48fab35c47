"""GSPO: the ratio of each response, verl's loss in token form, TRL's over sequences, the clip fraction."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.defaults import group_normalised
from harness.stages.loss import FixedBounds, PolicyLoss, SequenceRatio, clipped_tokens, sequence_log_ratio
from tests.methods.support.golden import TRL_ROWS, loss_and_grad, make_batch, spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    logp, old = tensor(case, "logp"), tensor(case, "old_logp")
    advantage_B = group_normalised(
        tensor(case, "rewards"), tensor(case, "groups"), eps=hp["std_eps"], ddof=hp["std_ddof"]
    )
    advantage = spread(advantage_B, mask)
    batch = make_batch(mask, old={"logp": old}, advantage_BT=advantage)
    stage = PolicyLoss(
        SequenceRatio(hp["log_ratio_max"]),
        FixedBounds(hp["eps_low"], hp["eps_high"]),
        aggregation="seq-mean-token-mean",
    )
    loss, grad = loss_and_grad(stage, batch, logp)[:2]
    loss_trl, grad_trl = loss_and_grad(stage, batch, logp, **TRL_ROWS)[:2]
    ratio = stage.ratio_BT(batch, {"logp": logp})
    clipped, _ = clipped_tokens(ratio, advantage, 1 - hp["eps_low"], 1 + hp["eps_high"])
    out = {
        "out_seq_ratio": sequence_log_ratio(logp, old, mask).exp(),
        "out_advantages": advantage,
        "out_advantages_seq": advantage_B * (mask.sum(1) > 0),
        "out_loss": loss,
        "out_grad_logp": grad,
        "out_loss_trl": loss_trl,
        "out_grad_logp_trl": grad_trl,
        "out_clipfrac": aggregate("token-mean", clipped.to(mask.dtype), mask),
    }
    return {k: np.asarray(v) for k, v in out.items()}
