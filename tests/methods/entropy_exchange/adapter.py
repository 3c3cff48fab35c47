"""Entropy-performance exchange: log-perplexity, its z-score, the position's bonus and both advantages."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from methods.entropy_exchange import by_perplexity, by_position, log_perplexity, position_bonus, standardised
from tests.methods.support.golden import spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, advantage = case.hp, tensor(case, "mask"), tensor(case, "advantages")
    log_ppl = log_perplexity(tensor(case, "old_logp"), mask)
    w = standardised(log_ppl, tensor(case, "groups"), hp["scope"], ddof=hp["ddof"], eps=hp["eps"])
    bonus = position_bonus(mask, hp["gamma"], hp["d"])
    out = {
        "out_log_ppl": log_ppl,
        "out_weights": w,
        "out_advantages_ppl": spread(by_perplexity(advantage, w, hp["alpha"]), mask),
        "out_position_bonus": bonus,
        "out_advantages_pos": by_position(advantage, bonus),
    }
    return {k: np.asarray(v) for k, v in out.items()}
