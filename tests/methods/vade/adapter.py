"""VADE: information, choice and counts over some steps, from given draws of p."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from methods.vade import counted, information, most_informative
from tests.methods.support.golden import tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, right, wrong = case.hp, tensor(case, "alpha0"), tensor(case, "beta0")
    decays = (hp["lambda1_selected"], hp["lambda2_unselected"])
    made: dict[str, list[np.ndarray]] = {
        name: [] for name in ("out_info_gain", "out_selected", "out_alpha", "out_beta")
    }
    for p_N, right_N in zip(tensor(case, "p_tilde"), tensor(case, "successes").double(), strict=True):
        value_N = information(p_N)
        drawn_N = torch.zeros(len(p_N), dtype=torch.bool)
        drawn_N[most_informative(value_N, hp["batch_prompts_B"])] = True
        right = counted(right, drawn_N, right_N, *decays)
        wrong = counted(wrong, drawn_N, hp["group_size_G"] - right_N, *decays)
        for name, value in zip(made, (value_N, drawn_N.long(), right, wrong), strict=True):
            made[name].append(value.numpy())
    return {name: np.stack(values) for name, values in made.items()}
