"""COPO: both advantages, answer entropies, weights, loss and gradient."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.answers import clustered
from harness.stages.blend import BlendedLoss
from harness.stages.defaults import group_normalised
from harness.stages.loss import FixedBounds
from methods.copo import between_groups, entropy_bits, group_rewards, local_weight
from tests.methods.support.golden import VERL_ROWS, answer_strings, loss_and_grad, make_batch, spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    reward, group = tensor(case, "rewards"), tensor(case, "groups")
    local = group_normalised(reward, group, eps=hp["epsilon"])
    entropy = entropy_bits(clustered(answer_strings(case), group), group)
    of_group = group_rewards(reward, group, entropy, hp["reward_coef_flg"])
    second = between_groups(of_group, group, hp["epsilon"])
    weight = local_weight(hp["global_flg"].replace(" ", "-"), entropy, reward, local, hp["k"], hp["b"])
    stage = BlendedLoss(
        bounds=FixedBounds(hp["clip_ratio_low"], hp["clip_ratio_high"]),
        dual_clip=hp["clip_ratio_c"],
        aggregation=case.meta["aggregation"].replace("_", "-"),
    )
    batch = make_batch(
        mask, old={"logp": tensor(case, "old_logp")}, advantage_BT=spread(local, mask),
        tags={"second_advantage": second, "first_weight": weight},
    )  # fmt: skip
    loss, grad = loss_and_grad(stage, batch, tensor(case, "logp"), **VERL_ROWS)[:2]
    out = {
        "out_advantages": spread(local, mask),
        "out_global_advantages": spread(second, mask),
        "out_answer_entropy_bits": entropy,
        "out_global_reward": of_group,
        "out_weights": spread(weight, mask),
        "out_loss": loss,
        "out_grad_logp": grad,
    }
    return {k: np.asarray(v) for k, v in out.items()}
