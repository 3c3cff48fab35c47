"""ADORA: prompt weights and advantages of both code bases."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.defaults import group_normalised
from methods.adora import prompt_weights
from tests.methods.support.golden import spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    reward, group = tensor(case, "rewards"), tensor(case, "groups")
    weight = prompt_weights(
        reward,
        mask.sum(1),
        group,
        variant=case.meta["variant"],
        weight=hp["lamda"],
        correct_score=hp.get("correct_score", 0.5),  # the vision-language code has it fixed
        max_length=hp["max_length_threshold"],
    )
    advantage = group_normalised(reward, group, eps=hp["epsilon"]) * weight
    return {"out_weights": weight.numpy(), "out_advantages": spread(advantage, mask).numpy()}
