"""Tool-Light: uncertainty of steps, the steps that are branched and where, and the preference loss."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.top_tokens import truncated_entropy
from methods.tool_light import best_prefixes, branch_steps, preference_loss, prefix_means
from tests.methods.support.golden import tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, length = case.hp, tensor(case, "lengths")
    likeliest, most = tensor(case, "top_logprobs"), int(hp["top_logprobs_K"])
    if likeliest.shape[-1] > most:
        likeliest = likeliest.topk(most, dim=-1).values
    entropy = truncated_entropy(likeliest)
    entropy = torch.where(torch.arange(entropy.shape[1]) < length[:, None], entropy, 0.0)
    means = prefix_means(entropy, length, hp["prefix_lengths"])
    score, which = best_prefixes(means)
    steps = branch_steps(score, hp["max_rollout_steps"])
    margin = sum(
        sign * (tensor(case, f"dpo_logp_{side}") - tensor(case, f"dpo_ref_{side}"))
        for sign, side in ((1, "chosen"), (-1, "rejected"))
    )
    out = {
        "out_prefix_entropy": means,
        "out_step_entropy": prefix_means(entropy, length, [entropy.shape[1]])[:, 0],
        "out_branch_steps": steps,
        "out_branch_prefix_len": [hp["prefix_lengths"][int(which[step])] for step in steps],
        "out_dpo_loss": preference_loss(torch.as_tensor(margin), hp["pref_beta"]),
    }
    return {k: np.asarray(v) for k, v in out.items()}
