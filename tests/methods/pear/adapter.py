"""PEAR: phase means, penalty, rewards, and GRPO's advantages of them."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.defaults import group_normalised
from methods.pear import penalty, phase_means, phase_reward
from tests.methods.support.golden import spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, end = case.hp, tensor(case, "mask"), tensor(case, "think_end")
    end = torch.where(end < 0, mask.shape[1], end)  # a response without the mark is all thinking
    think, answer = phase_means(tensor(case, "entropy"), mask, end, end)
    paid = penalty(think, answer, hp["alpha"])
    reward = phase_reward(tensor(case, "correct"), paid, hp["s"], hp["r_fmt"])
    advantage = group_normalised(reward, tensor(case, "groups"), eps=hp["adv_eps"], ddof=hp["ddof"])
    out = {
        "out_h_think": think,
        "out_h_answer": answer,
        "out_penalty": paid,
        "out_rewards": reward,
        "out_advantages": spread(advantage, mask),
    }
    return {k: np.asarray(v) for k, v in out.items()}
