"""R^3: entropy levels and ranked rewards; what joins groups of equal rewards, and the advantages."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.groups import rows_by_group
from methods.r3 import dominated, entropy_levels, mixed_advantage, ranked_rewards
from tests.methods.support.golden import tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp = case.hp
    peak, whole = entropy_levels(tensor(case, "entropy"), tensor(case, "mask"), hp["top_fraction_p"])
    score, reward = torch.zeros_like(peak), torch.zeros_like(peak)
    for rows in rows_by_group(tensor(case, "groups")):
        own = dominated(peak[rows], whole[rows])
        score[rows], reward[rows] = own.to(peak.dtype), ranked_rewards(own, hp["R_max"])
    on_GN = tensor(case, "on_rewards")
    groups, n = on_GN.shape
    k = hp["replay_k"]
    right_G = (on_GN > 0).all(1)
    used_G = right_G | (on_GN <= 0).all(1)
    stored_GK = torch.where(used_G & ~right_G, 1.0, 0.0)[:, None].double().expand(groups, k)
    all_B = torch.cat([on_GN, stored_GK], 1).flatten()
    group_B = torch.arange(groups).repeat_interleave(n + k)
    there_B = (torch.arange(n + k) < n).repeat(groups) | used_G[group_B]
    credit_B = torch.zeros_like(all_B)
    credit_B[there_B] = mixed_advantage(
        all_B[there_B], group_B[there_B], used_G[group_B][there_B], hp["alpha"], hp["lambda"]
    )
    credit = credit_B.reshape(groups, n + k)
    out = {
        "out_peak_entropy": peak,
        "out_global_entropy": whole,
        "out_dominance": score,
        "out_serr_reward": reward,
        "out_replay_rewards": stored_GK,
        "out_replay_used": used_G.long(),
        "out_adv_on": credit[:, :n],
        "out_adv_replay": credit[:, n:],
    }
    return {name: np.asarray(value) for name, value in out.items()}
