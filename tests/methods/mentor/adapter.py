"""MENTOR: the mixture's weight and distribution, the speculative form of it, alpha and advantages."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.rollout.mixing import mixture
from methods.mentor import alpha_at, expert_share, mixed_advantages, policy_entropy
from tests.methods.mentor.speculative import accepted, resampled
from tests.methods.support.golden import spread, tensor

#: The distributions have no rows of their own.
MASKS = {
    "out_entropy": "",
    "out_weight": "",
    "out_mix_probs": "",
    "out_accept_prob": "",
    "out_residual_probs": "",
}


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp = case.hp
    alpha = alpha_at(hp["step"], hp["decay_total_steps"], hp["expert_weight"])
    advantage = mixed_advantages(
        tensor(case, "rewards"), tensor(case, "groups"), tensor(case, "is_expert") > 0, alpha,
        cap=hp["expert_cap"], eps=hp["adv_eps"],
    )  # fmt: skip
    own, expert, tokens = (tensor(case, name) for name in ("policy_probs", "expert_probs", "tokens"))
    share = expert_share(own, hp["entropy_threshold_gamma"], hp["entropy_log_eps"])
    mixed = mixture(own, expert, share)
    out = {
        "out_alpha": alpha,
        "out_advantages": spread(advantage, tensor(case, "mask")),
        "out_entropy": policy_entropy(own, hp["entropy_log_eps"]),
        "out_weight": share,
        "out_mix_probs": mixed,
        "out_accept_prob": accepted(own, mixed).gather(-1, tokens[..., None])[..., 0],
        "out_residual_probs": resampled(own, mixed),
    }
    return {k: np.asarray(v) for k, v in out.items()}
