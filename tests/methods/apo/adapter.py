"""APO: difficulty, both weights, advantages, policy term and weighted KL."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from methods.apo import WeightedKL, clipped_advantage, difficulty, kl_weight, length_weight
from tests.methods.support.golden import TRL_ROWS, loss_and_grad, make_batch, spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    reward, group, logp = (tensor(case, name) for name in ("rewards", "groups", "logp"))
    weight = length_weight(reward, tensor(case, "response_length"), group, hp["stcr_base"])
    advantage = clipped_advantage(reward, group, hp["adv_eps"], hp["ddof"]) * weight
    hardness = difficulty(reward, group)
    share = kl_weight(hardness, advantage)
    batch = make_batch(
        mask,
        old={"logp": tensor(case, "old_logp")},
        ref_logp_BT=tensor(case, "ref_logp"),
        advantage_BT=spread(advantage, mask),
        tags={"apo_kl_weight": share},
    )
    bounds = FixedBounds(hp["clip"], hp["clip"])
    stage = PolicyLoss(TokenRatio(None), bounds, aggregation="token-mean")
    policy, policy_grad = loss_and_grad(stage, batch, logp)[:2]
    kl_stage = WeightedKL(1.0, hp["kl_estimator"], exponent_clamp=None, value_clamp=None)
    leaf = logp.clone().requires_grad_()
    kl = aggregate("seq-mean-token-mean", kl_stage(batch, {"logp": leaf}, {}), mask, **TRL_ROWS)
    (kl_grad,) = torch.autograd.grad(kl, leaf)
    out = {
        "out_difficulty": hardness,
        "out_stcr_weight": weight,
        "out_advantages": spread(advantage, mask),
        "out_kl_weight": share,
        "out_policy_loss": policy,
        "out_kl_loss": kl.detach(),
        "out_loss": policy + hp["kl_coef"] * kl.detach().numpy(),
        "out_grad_logp": policy_grad + hp["kl_coef"] * kl_grad.numpy(),
    }
    return {k: np.asarray(v) for k, v in out.items()}
