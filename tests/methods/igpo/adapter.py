"""IGPO: probabilities of the forced answer, turn rewards, advantages of the code and of the paper."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.segments import segments_from
from methods.igpo import (
    PositionAdvantage,
    answer_prob,
    gains,
    over_segments,
    turn_advantages,
)
from tests.methods.support.golden import make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, group = case.hp, tensor(case, "mask"), tensor(case, "groups")
    prob = [[answer_prob(logp) for logp in row] for row in case["gt_logp"].tolist()]
    outcomes = case["rewards"].tolist()
    turns = [[*gains(p), outcome] for p, outcome in zip(prob, outcomes, strict=True)]
    ends = case["turn_end"].tolist()
    reward = torch.zeros(mask.shape, dtype=torch.float64)
    for row, (own, at) in enumerate(zip(turns, ends, strict=True)):
        reward[row, at] = torch.tensor(own, dtype=torch.float64)
    batch = make_batch(mask, group_B=group, reward_BT=reward)
    released = PositionAdvantage(hp["gamma_code"]).of(batch)
    norm = "separate" if "separate" in str(case.meta.get("variant")) else "joint"
    scored = turn_advantages(turns, group, hp["gamma_paper_variant"], norm, hp["eps_paper_variant"])
    starts = [[0, *(end + 1 for end in own[:-1])] for own in ends]
    paper = over_segments(scored, segments_from(starts, mask), mask)
    out = {
        "out_gt_prob": prob,
        "out_turn_rewards": turns,
        "out_advantages": released,
        "out_paper_turn_advantages": scored,
        "out_paper_advantages": paper,
    }
    return {k: np.asarray(v) for k, v in out.items()}
