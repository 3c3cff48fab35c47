"""EMPG: scale and clarity of each step, advantages. A row is a step; those of a trajectory share ``traj``."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from methods.empg import modulated, modulation, steps_of
from tests.methods.support.golden import spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    entropy = steps_of(tensor(case, "entropy"), torch.zeros(mask.shape, dtype=torch.int64), mask).entropy_S
    g, f = modulation(entropy, hp["k"], hp["k_prime"], hp["eps"])
    order = torch.from_numpy(np.lexsort((case["step"], case["traj"])))
    ordered = [v[order] for v in (tensor(case, "advantages"), g, f, tensor(case, "traj"))]
    credit = torch.empty_like(g)
    credit[order] = modulated(*ordered, zeta=hp["zeta"])
    out = {"out_g": g, "out_f": f, "out_advantages": spread(credit, mask)}
    return {k: np.asarray(v) for k, v in out.items()}
