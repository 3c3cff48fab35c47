"""Data filters: penalty, kept groups by four rules, the first of them, the overlong mask, advantages."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.defaults import group_normalised
from harness.stages.filters import group_spreads
from methods.dapo import overlong_penalty
from methods.data_filters import GroupRule, first_groups, without_overlong
from tests.methods.support.golden import spread, tensor


def per_group(keep_B: torch.Tensor, group_B: torch.Tensor) -> torch.Tensor:
    """A value of rows as one of groups, in order of their numbers."""
    return torch.stack([keep_B[group_B == group][0] for group in torch.unique(group_B)]).long()


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, group = case.hp, tensor(case, "mask"), tensor(case, "groups")
    correct, length = tensor(case, "accuracy"), tensor(case, "response_len").double()
    penalty = overlong_penalty(length, hp["L_max"], hp["L_cache"], hp["penalty_factor"])
    reward = 2 * correct - 1 + penalty
    low, high = hp["mean_band"]
    rules = {
        "acc": GroupRule("varied", "acc"),
        "reward": GroupRule("varied", "seq_reward"),
        "mean_band": GroupRule("band", "acc", low=low, high=high),
        "topstd": GroupRule("top-std", top_share=hp["rollout_filter_ratio"]),
    }
    kept = {name: rule.kept(correct, reward, group) for name, rule in rules.items()}
    first = first_groups(kept["acc"], group, hp["train_batch_prompts"])
    loss_mask = without_overlong(mask.bool(), tensor(case, "truncated")).to(mask.dtype)
    advantage = spread(group_normalised(reward, group), mask)
    out = {
        "out_overlong_penalty": penalty,
        "out_rewards": reward,
        "out_keep_acc": kept["acc"].long(),
        "out_keep_reward": kept["reward"].long(),
        "out_keep_mean_band": per_group(kept["mean_band"], group),
        "out_group_std": group_spreads(reward, group),
        "out_keep_topstd": per_group(kept["topstd"], group),
        "out_final_prompts": np.array(first + [-1] * (hp["train_batch_prompts"] - len(first))),
        "out_mask_overlong_filter": loss_mask,
        "out_advantages": advantage,
        "out_advantages_masked": advantage * loss_mask,
    }
    return {k: np.asarray(v) for k, v in out.items()}
