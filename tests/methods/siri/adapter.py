"""SIRI: the three schedules, and which lengths the cosine's limit lets pass."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from methods.siri import limit_at, tokens_at


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    low, high, cycle = (case.hp[name] for name in ("L_min", "L_max", "cycle_T"))
    phases = [step / cycle for step in case["steps"].tolist()]
    out = {
        f"out_{name.replace('-', '_')}": [limit_at(phase, low, high, name) for phase in phases]
        for name in ("cosine", "stair", "stair-cosine")
    }
    limits = [tokens_at(phase, low, high, "cosine") for phase in phases]
    lengths = case["response_len"].tolist()
    inside = [int(length <= limit) for length, limit in zip(lengths, limits, strict=True)]
    return {k: np.asarray(v) for k, v in {**out, "out_within_cap_cosine": inside}.items()}
