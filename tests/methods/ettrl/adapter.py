"""ETTRL: entropy of responses, the factor of EAR and both reshaped advantages, and where roots fork."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.branching import highest_positions
from methods.ettrl import residual, response_entropy
from tests.methods.support.golden import tensor

#: A position for each fork, not a value for each token.
MASKS = {"out_fork_positions": ""}


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, advantage = case.hp, tensor(case, "mask").bool(), tensor(case, "advantages")
    entropy, n = tensor(case, "entropy"), hp["n_forks"]
    h = response_entropy(entropy, mask)
    factor = residual(h, tensor(case, "groups"), hp["entropy_floor"])
    found = highest_positions(entropy, mask, n)
    out = {
        "out_h_resp": h,
        "out_factor": factor,
        "out_advantages": factor * advantage,
        "out_advantages_clip": advantage.clamp(-hp["beta"], hp["beta"]),
        "out_fork_positions": [[*places, *[-1] * (n - len(places))] for places in found],
    }
    return {k: np.asarray(v) for k, v in out.items()}
