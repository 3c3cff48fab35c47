"""SPEAR: medians, recalibrated advantages, what a replay takes and when, and both curricula."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from methods.spear import (
    above,
    imitation_coefficient,
    is_full,
    median,
    recalibrated,
    replay_size,
    tool_coefficient,
    worth_keeping,
)
from tests.methods.support.golden import tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, reward = case.hp, tensor(case, "rewards")
    mean, std = median(tensor(case, "hist_group_mean")), median(tensor(case, "hist_group_std"))
    advantage = recalibrated(
        reward, tensor(case, "mask"), mean, std if hp["norm_adv_by_std"] else None, hp["adv_eps"]
    )
    kept, size = worth_keeping(advantage), hp["trajectory_buffer_size"]
    stored = int(above(reward, mean).sum())
    coef, steps = hp["replay_loss_coef"], hp["max_replay_loss_steps"]
    out = {
        "out_p50_mean": mean,
        "out_p50_std": std,
        "out_advantages": advantage,
        "out_keep": kept.long(),
        "out_num_used": torch.tensor(replay_size(int(kept.sum()), size)),
        "out_buffer_size": torch.tensor(stored),
        "out_full": torch.tensor(int(is_full(stored, size))),
        "out_replay_coef": torch.tensor(
            [imitation_coefficient(s, coef, steps) for s in case["steps"].tolist()], dtype=torch.float64
        ),
        "out_tool_coef": torch.tensor(
            [tool_coefficient(s, hp["max_toolcall_steps"]) for s in case["tool_steps"].tolist()],
            dtype=torch.float64,
        ),
    }
    return {k: np.asarray(v) for k, v in out.items()}
