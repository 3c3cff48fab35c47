"""G2RPO with several tasks: advantages of two maps, policy term, and the band over all tasks."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from methods.g2rpo import SampledBand, gaussian_advantage, side_of
from tests.methods.support.golden import loss_and_grad, make_batch, spread, tensor

#: The source divides by the number of tokens + 1e-8.
COUNT = {"count_eps": 1e-8}


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, logp = case.hp, tensor(case, "mask"), tensor(case, "logp")
    task, reward, group = (tensor(case, name) for name in ("task", "rewards", "groups"))
    advantage = torch.zeros_like(reward)
    tasks = torch.unique(task)
    absent = len(hp["task_ids"].split(",")) - len(tasks)
    _, nothing = side_of(0.0, hp["entropy_low"], hp["entropy_high"])  # an absent task has h = 0
    band, band_grad = np.float64(absent * nothing), np.zeros(mask.shape)
    stage = SampledBand(1.0, hp["entropy_low"], hp["entropy_high"])
    for number in tasks:
        rows = task == number
        advantage[rows] = gaussian_advantage(reward[rows], group[rows], decimals=None)
        value, grad = loss_and_grad(stage, make_batch(mask[rows]), logp[rows], **COUNT)[:2]
        band, band_grad[rows.numpy()] = band + value, grad
    batch = make_batch(mask, old={"logp": tensor(case, "old_logp")}, advantage_BT=spread(advantage, mask))
    policy = PolicyLoss(
        TokenRatio(),
        FixedBounds(hp["clip_low"], hp["clip_high"]),
        dual_clip=hp["clip_dual"],
        aggregation="token-mean",
    )
    loss, policy_grad = loss_and_grad(policy, batch, logp, **COUNT)[:2]
    out = {
        "out_advantages": spread(advantage, mask),
        "out_policy_loss": loss,
        "out_entropy_reg": band,
        "out_loss": loss + hp["entropy_coef"] * band,
        "out_grad_logp": policy_grad + hp["entropy_coef"] * band_grad,
        "out_grad_entropy_reg": band_grad,
    }
    return {k: np.asarray(v) for k, v in out.items()}
