"""DRPO: weights by length, D, loss with the surrogate's value, and gradient."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.groups import counted_groups
from methods.drpo import DecoupledLoss, LengthShare, OldPolicyHinge, log_length_weight
from tests.methods.support.golden import loss_and_grad, make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, logp = case.hp, tensor(case, "mask"), tensor(case, "logp")
    reward, width = tensor(case, "rewards"), mask.shape[1]
    batch = make_batch(
        mask, old={"logp": tensor(case, "old_logp")}, reward_B=reward, group_B=tensor(case, "groups")
    )
    share = LengthShare(hp["Lambda"]).of(batch, width)
    # on all tokens: the loss reads a response's first, which a mask with holes may leave out
    batch = counted_groups(batch).with_(advantage_BT=share[:, None].expand(mask.shape))
    value, grad = loss_and_grad(DecoupledLoss(hp["tau"]), batch, logp, length_eps=0.0)[:2]
    hinge = OldPolicyHinge(hp["beta"], hp["delta"], hp["kl_type"])
    penalty, own, _, told = loss_and_grad(hinge, batch, logp)
    out = {
        "out_loss": value + penalty,
        "out_grad_logp": grad + own,
        "out_ppo_kl": told["drpo/kl"],
        "out_weights": torch.where(
            reward == 1, log_length_weight(batch.length_B, width, hp["Lambda"]).exp(), 0.0
        ),
    }
    return {k: np.asarray(v) for k, v in out.items()}
