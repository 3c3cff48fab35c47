"""EVOL-RL: rewards from given embeddings, majority and validity, and their advantages."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.defaults import group_normalised
from methods.evol_rl import rewards_of
from tests.methods.support.golden import tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, group = case.hp, tensor(case, "groups")
    vectors, valid = tensor(case, "embeddings"), tensor(case, "valid").bool()
    reward, _ = rewards_of(
        lambda rows: vectors[torch.tensor(rows)], tensor(case, "majority") > 0, valid, group, hp["mix"],
        tuple(hp["positive_range"]), tuple(hp["negative_range"]), hp["invalid"],
    )  # fmt: skip
    advantage = group_normalised(reward, group, eps=hp["adv_epsilon"])
    return {"out_rewards": reward.numpy(), "out_advantages": advantage.numpy()}
