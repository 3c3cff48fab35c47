"""SEED-GRPO: semantic entropies, factors and advantages of the code's form and of the paper's."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.answers import clustered
from harness.stages.defaults import group_normalised
from methods.seed_grpo import factor, log_likelihood, semantic_entropy
from tests.methods.support.golden import answer_strings, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, group = case.hp, tensor(case, "groups")
    cluster = clustered(answer_strings(case), group)
    likelihood = log_likelihood(tensor(case, "old_logp"), tensor(case, "mask"))
    alike = torch.zeros_like(likelihood)
    paper, largest = semantic_entropy(cluster, group, alike, "linear")
    code, _ = semantic_entropy(cluster, group, likelihood, "code")
    base = group_normalised(tensor(case, "rewards"), group, scale="none")
    scale = factor(code, largest, hp["alpha_code"], "code")
    out = {
        "out_se": paper,
        "out_se_likelihood": semantic_entropy(cluster, group, likelihood, "linear")[0],
        "out_se_discrete": semantic_entropy(cluster, group, alike, "code")[0],
        "out_se_max": largest,
        "out_advantages_base": base,
        "out_advantages": base * factor(paper, largest, hp["alpha"], "linear"),
        "out_advantages_exp": base * factor(paper, largest, hp["alpha"], "exponential"),
        "out_se_code": code,
        "out_scale_code": scale,
        "out_advantages_code": base * scale,
    }
    return {k: np.asarray(v) for k, v in out.items()}
