"""SAGE: the light rule, the levels that groups end at, their rewards and advantages."""

from __future__ import annotations

import math

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.defaults import group_normalised
from harness.stages.groups import rows_by_group
from methods.sage import next_level, resolved
from tests.methods.support.golden import spread, tensor


def escalated(reward_LNG: torch.Tensor, ok_N: list[int], top: int) -> tuple[list[int], torch.Tensor]:
    """The level that each prompt's rollouts are kept of, and their rewards ``[N,G]``."""
    n, size = reward_LNG.shape[1:]
    group = torch.arange(n).repeat_interleave(size)
    level, kept = [0] * n, reward_LNG[0].clone()
    for rise in range(1, top + 1):
        solved = resolved(kept.flatten(), group)
        for i in range(n):
            if not solved[i] and ok_N[i]:
                level[i], kept[i] = rise, reward_LNG[rise, i]
    return level, kept


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp = case.hp
    low, high, top = hp["hint_accuracy_min_threshold"], hp["hint_accuracy_max_threshold"], hp["L"]
    visits = zip(case["prev_level"].tolist(), case["prev_acc"].tolist(), strict=True)
    rule = "paper" if hp.get("paper_light") else "released"
    light = [
        next_level(last, None if math.isnan(acc) else acc, low, high, top=top, rule=rule)
        for last, acc in visits
    ]
    level, kept = escalated(tensor(case, "rewards_by_level"), case["hint_ok"].tolist(), top)
    group = tensor(case, "groups")
    reward = torch.zeros(len(group), dtype=kept.dtype)
    for own, rows in zip(kept, rows_by_group(group), strict=True):
        reward[rows] = own
    advantage = spread(group_normalised(reward, group), tensor(case, "mask"))
    out = {
        "out_light_level": light,
        "out_level": level,
        "out_rewards": kept,
        "out_advantages": advantage,
    }
    return {k: np.asarray(v) for k, v in out.items()}
