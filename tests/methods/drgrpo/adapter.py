"""Dr. GRPO: advantages, the official loss with its KL, TRL's, and verl's reduction of the same purpose."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.defaults import group_normalised
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from harness.stages.regularise import kl_estimate
from methods.drgrpo import AGGREGATION
from tests.methods.support.golden import loss_and_grad, make_batch, spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    reward, group, logp = (tensor(case, n) for n in ("rewards", "groups", "logp"))
    advantage = group_normalised(reward, group, scale="none")
    batch = make_batch(mask, old={"logp": tensor(case, "old_logp")}, advantage_BT=spread(advantage, mask))
    bounds, width = FixedBounds(hp["cliprange"], hp["cliprange"]), {"width": hp["max_tokens"]}
    stage = PolicyLoss(TokenRatio(None), bounds, aggregation=AGGREGATION)
    policy, policy_grad = loss_and_grad(stage, batch, logp, **width)[:2]
    leaf = logp.clone().requires_grad_()
    k3 = kl_estimate(
        "k3",
        leaf,
        tensor(case, "ref_logp"),
        exponent_clamp=None,
        value_clamp=None,
        log_ratio_clamp=hp["kl_log_ratio_clamp"],
    )
    penalty = hp["beta"] * aggregate(AGGREGATION, k3, mask, **width)
    loss = policy + penalty.detach().numpy()
    grad = policy_grad + torch.autograd.grad(penalty, leaf)[0].numpy()
    verl = PolicyLoss(TokenRatio(None), bounds, aggregation="seq-mean-token-sum-norm")
    loss_verl, grad_verl = loss_and_grad(verl, batch, logp)[:2]
    out = {
        "out_advantages": advantage,
        "out_advantages_oat_grpo": group_normalised(
            reward, group, eps=hp["std_eps_oat_grpo"], ddof=hp["std_ddof"]
        ),
        **dict.fromkeys(("out_loss", "out_loss_trl"), loss),
        **dict.fromkeys(("out_grad_logp", "out_grad_logp_trl"), grad),
        "out_loss_verl": loss_verl,
        "out_grad_logp_verl": grad_verl,
    }
    return {k: np.asarray(v) for k, v in out.items()}
