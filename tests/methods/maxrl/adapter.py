"""MaxRL: advantages of the official code, of the paper and prime-rl, and the estimator's weights."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.credit import group_size_of
from methods.maxrl import mean_normalised
from tests.methods.support.golden import spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    mask, reward, group = (tensor(case, name) for name in ("mask", "rewards", "groups"))
    exact = mean_normalised(reward, group, 0.0)
    out = {
        "out_advantages": spread(mean_normalised(reward, group, case.hp["eps"]), mask),
        "out_advantages_exact": spread(exact, mask),
        "out_weights": exact / group_size_of(group),
    }
    return {k: np.asarray(v) for k, v in out.items()}
