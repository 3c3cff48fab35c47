"""AZR: rewards of both roles in every variant, advantages within each role, and update sparsity."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from methods.self_play_azr import (
    learnability,
    proposer_reward,
    role_advantages,
    solver_reward,
    update_sparsity,
)
from tests.methods.support.golden import tensor

#: One value a row; the mask is of tokens.
MASKS = {
    "out_propose_one_minus": "",
    "out_propose_inverse": "",
    "out_propose_half": "",
    "out_propose_reward": "",
    "out_solve_reward": "",
}


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    acc = tensor(case, "solver_acc")
    formed, valid = tensor(case, "format_ok") > 0, tensor(case, "valid") > 0
    solved = solver_reward(tensor(case, "solve_acc"), tensor(case, "solve_format_ok") > 0)
    proposed = proposer_reward(acc, valid, formed)
    advantage = role_advantages(proposed, tensor(case, "task_role"), tensor(case, "mask"), case.hp["gamma"])
    before, after = tensor(case, "theta0"), tensor(case, "theta1")
    out = {
        "out_propose_one_minus": learnability(acc, "one_minus"),
        "out_propose_inverse": learnability(acc, "inverse"),
        "out_propose_half": learnability(acc, "half"),
        "out_propose_reward": proposed,
        "out_solve_reward": solved,
        "out_advantages": advantage,
        "out_sparsity_fp32": update_sparsity(before, after, torch.float32),
        "out_sparsity_bf16": update_sparsity(before, after, torch.bfloat16),
    }
    return {k: np.asarray(v) for k, v in out.items()}
