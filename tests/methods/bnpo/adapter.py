"""BNPO: the Beta law of the success rates, advantages, loss and gradient."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.groups import group_means
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from methods.bnpo import BetaNormalised, beta_parameters
from tests.methods.support.golden import VERL_ROWS, loss_and_grad, make_batch, plain_context, spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    reward, group = tensor(case, "rewards"), tensor(case, "groups")
    stage = BetaNormalised(hp["min_value"], hp["max_value"])
    batch = make_batch(mask, old={"logp": tensor(case, "old_logp")}, reward_B=reward, group_B=group)
    advantage = stage(batch, plain_context(mask)).value
    p_G, _ = group_means((reward - stage.r_min) / (stage.r_max - stage.r_min), group)
    alpha, beta = beta_parameters(p_G, stage.divisor)
    loss_stage = PolicyLoss(
        TokenRatio(), FixedBounds(hp["clip_ratio_low"], hp["clip_ratio_high"]), dual_clip=hp["clip_ratio_c"],
        aggregation=hp["loss_agg_mode"],
    )  # fmt: skip
    trained = batch.with_(advantage_BT=spread(advantage, mask))
    loss, grad = loss_and_grad(loss_stage, trained, tensor(case, "logp"), **VERL_ROWS)[:2]
    out = {
        "out_advantages": spread(advantage, mask),
        "out_alpha": alpha,
        "out_beta": beta,
        "out_group_means": p_G,
        "out_loss": loss,
        "out_grad_logp": grad,
    }
    return {k: np.asarray(v) for k, v in out.items()}
