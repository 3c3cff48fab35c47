"""Agentic AEPO: entropy-aware advantages, the balanced loss, fresh rollouts and branches."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from methods.agentic_aepo import (
    BalancedLoss,
    branch_probability,
    branches,
    entropy_aware,
    fresh_rollouts,
    standardised,
)
from tests.methods.support.golden import loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    advantage = tensor(case, "advantages")
    if hp["enable_advantage"]:
        z = standardised(tensor(case, "entropy"), mask)
        advantage = entropy_aware(advantage, z, hp["entropy_adv_weight"])
    advantage = advantage * mask
    batch = make_batch(mask, old={"logp": tensor(case, "old_logp")}, advantage_BT=advantage)
    form = BalancedLoss if hp["enable_clipping"] else PolicyLoss
    name = str(case.meta["aggregation"]).split()[0]
    stage = form(
        TokenRatio(None), FixedBounds(hp["clip_low"], hp["clip_high"]), dual_clip=hp["clip_ratio_c"],
        aggregation=name,
    )  # fmt: skip
    loss, grad = loss_and_grad(stage, batch, tensor(case, "logp"), count_eps=1e-8)[:2]
    k, beta = int(hp["rollout_budget_k"]), hp["beta"]
    fresh = [
        fresh_rollouts(k, root, tool, beta)
        for root, tool in zip(case["h_root"], case["h_step_avg"], strict=True)
    ]
    uniform, rise, run = (tensor(case, f"branch_{name}") for name in ("u", "dH", "consecutive"))
    score = branch_probability(uniform, rise, run, hp["entropy_weight"], hp["branch_penalty"])
    out = {
        "out_advantages": advantage,
        "out_loss": loss,
        "out_grad_logp": grad,
        "out_initial_rollouts": torch.tensor(fresh),
        "out_branch_prob": score,
        "out_branch": branches(score, hp["branch_probability"]),
    }
    return {k: np.asarray(v) for k, v in out.items()}
