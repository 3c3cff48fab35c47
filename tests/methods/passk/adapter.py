"""Training for pass@k: both estimators, and the advantages of the three rules."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.groups import per_group
from methods.passk import best_advantage, max_at_k, pass_chance, pkpo_advantage, training_advantage
from tests.methods.support.golden import spread, tensor


def estimates(score_n: torch.Tensor, k: int, estimator: str) -> torch.Tensor:
    """PKPO's, NaN for a group in which the estimator has no value."""
    if (estimator == "loo" and k == len(score_n)) or (estimator == "loo-1" and k == 1):
        return torch.full_like(score_n, torch.nan)
    return pkpo_advantage(score_n, k, estimator)


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, k, mask = case.hp, case.hp["k"], tensor(case, "mask")
    reward, score, group = (tensor(case, name) for name in ("rewards", "scores", "groups"))
    groups = torch.unique(group)
    training = partial(training_advantage, k=k, eps=hp["training_eps"])
    best = partial(
        best_advantage, norm_by_std=hp["best_norm_by_std"], eps=hp["best_eps"], ddof=hp["best_std_ddof"]
    )
    out = {
        "out_pass_at_k": [
            pass_chance(int((group == g).sum()), int(reward[group == g].sum()), k) for g in groups
        ],
        "out_max_at_k": [float(max_at_k(score[group == g], k)) for g in groups],
        "out_advantages_training": spread(per_group(training, group, reward), mask),
        "out_advantages_best": spread(per_group(best, group, score), mask),
        "out_rewards_pkpo": per_group(partial(estimates, k=k, estimator="loo-1"), group, score),
        "out_rewards_pkpo_raw": per_group(partial(estimates, k=k, estimator="raw"), group, score),
        "out_rewards_pkpo_loo": per_group(partial(estimates, k=k, estimator="loo"), group, score),
        "out_advantages_pkpo_binary": spread(
            per_group(partial(estimates, k=k, estimator="binary"), group, reward), mask
        ),
    }
    return {name: np.asarray(value) for name, value in out.items()}
