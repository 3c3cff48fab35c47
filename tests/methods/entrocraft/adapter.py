"""Entrocraft over a trace of (step, entropy): band, released advantages, the paper's filter, EntroPIC."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.defaults import group_normalised
from methods.entrocraft import entropic, gate, gated_rewards, kept_rollouts, scheduled
from tests.methods.support.golden import spread, tensor

SCHEDULE = {"linear": "linear", "cos": "cosine", "cosine": "cosine", "constant": "constant"}


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, reward = case.hp, tensor(case, "mask"), tensor(case, "rewards")
    advantage = group_normalised(reward, tensor(case, "groups"), eps=hp["std_eps"], ddof=hp["std_ddof"])
    integral = hp["entropic_integrator_start"]
    out: dict[str, list] = {}
    for step, entropy in zip(case["trace_step"].tolist(), case["trace_entropy"].tolist(), strict=True):
        u = step / hp["total_steps"]
        lo, hi = (scheduled(*hp[f"{s}_range"], u, SCHEDULE[hp["schedule"]]) for s in ("lower", "upper"))
        g = gate(entropy, lo, hi)
        keep = kept_rollouts(advantage, g).to(mask.dtype)
        baseline, integral = entropic(
            reward, entropy, hp["entropic_target"], integral, hp["entropic_kp"], hp["entropic_ki"]
        )
        for name, value in {
            "out_lower": lo,
            "out_upper": hi,
            "out_advantages": spread(gated_rewards(reward, advantage, g), mask),
            "out_keep_paper": keep,
            "out_advantages_paper": spread(advantage * keep, mask),
            "out_entropic_advantages": spread(baseline, mask),
            "out_entropic_alpha": integral,
        }.items():
            out.setdefault(name, []).append(np.asarray(value))
    return {k: np.stack(v) for k, v in out.items()}
