"""QAE: baselines and advantages with both standard deviations."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from methods.qae import quantile_advantage, quantile_baseline
from tests.methods.support.golden import spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, reward, group = case.hp, *(tensor(case, name) for name in ("mask", "rewards", "groups"))
    eps = hp["std_eps"]
    advantage = quantile_advantage(reward, group, hp["K"], eps=eps, ddof=hp["std_ddof"])
    out = {
        "out_baseline": quantile_baseline(reward, group, hp["K"]),
        "out_advantages_seq": advantage,
        "out_advantages": spread(advantage, mask),
        "out_advantages_ddof1": spread(quantile_advantage(reward, group, hp["K"], eps=eps, ddof=1), mask),
        "out_zero_fraction": (advantage == 0).double().mean(),
    }
    return {k: np.asarray(v) for k, v in out.items()}
