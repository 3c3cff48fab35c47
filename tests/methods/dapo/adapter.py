"""DAPO: overlong penalty, filter by verdict, advantages of the shaped reward, loss; TRL's loss too."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.defaults import group_normalised
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from methods.dapo import mixed_groups, overlong_penalty
from tests.methods.support.golden import loss_and_grad, make_batch, spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, group = case.hp, tensor(case, "mask"), tensor(case, "groups")
    penalty = overlong_penalty(
        tensor(case, "resp_len").to(mask.dtype),
        hp["max_resp_len"],
        hp["overlong_buffer_len"],
        hp["overlong_penalty_factor"],
    )
    shaped = tensor(case, "rewards") + penalty
    advantage = spread(group_normalised(shaped, group, eps=hp["std_eps"], ddof=hp["std_ddof"]), mask)
    keep = mixed_groups(tensor(case, "acc"), group)
    bounds = FixedBounds(hp["eps_low"], hp["eps_high"])
    stage = PolicyLoss(
        TokenRatio(hp["log_ratio_clamp"]), bounds, dual_clip=hp["clip_c"], aggregation="token-mean"
    )
    batch = make_batch(mask, old={"logp": tensor(case, "old_logp")}, advantage_BT=advantage)
    kept = batch.with_(loss_mask_BT=batch.mask_BT & keep[:, None])
    logp = tensor(case, "logp")
    out = {
        "out_overlong_penalty": penalty,
        "out_shaped_reward": shaped,
        "out_keep_mask": keep.to(mask.dtype),
        "out_advantages": advantage,
    }
    out["out_loss"], out["out_grad_logp"] = loss_and_grad(stage, kept, logp)[:2]
    out["out_loss_unfiltered"], out["out_grad_logp_unfiltered"] = loss_and_grad(stage, batch, logp)[:2]
    trl = PolicyLoss(TokenRatio(None), bounds, aggregation="token-mean")
    out["out_loss_trl_dapo"], out["out_grad_logp_trl_dapo"] = loss_and_grad(trl, batch, logp)[:2]
    return {k: np.asarray(v) for k, v in out.items()}
