"""VCPO: sequence weights, both baselines, the gradient they give, effective samples and the learning rate."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from methods.vcpo import (
    VarianceControl,
    baselines,
    distances,
    effective_sample_size,
    log_weights,
    rate_multiplier,
    standardised,
    truncated,
)
from tests.methods.support.golden import tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    if hp["scope"] != "group":
        raise ValueError(f"scope {hp['scope']} is not built")
    reward, group, score = tensor(case, "rewards"), tensor(case, "groups"), tensor(case, "score")
    length, rows = mask.sum(1), len(mask)
    log_weight = log_weights(tensor(case, "logp"), tensor(case, "rollout_logp"), mask)
    weight, kept = log_weight.exp(), truncated(log_weight, hp["is_threshold"], hp["log_is_clamp"])
    out: dict[str, object] = {
        "out_seq_is": weight,
        "out_seq_is_clipped": kept,
        "out_grad_norm_unscaled": kept * score.norm(dim=1),
    }
    for paper, prefix in ((False, "out_"), (True, "out_paper_")):
        control = VarianceControl(
            hp["is_threshold"], paper, hp["agg_mode"], hp["use_is_weights"], hp["use_clipped_is_ratios"],
            hp["normalize_by_length"], hp["norm_by_std"],
        )  # fmt: skip
        norms = control.baseline_weights(log_weight, score.norm(dim=1), length)
        baseline = baselines(reward, norms, group, hp["agg_mode"], hp["baseline_eps"])
        advantage = reward - baseline
        if hp["norm_by_std"]:
            advantage = standardised(reward, baseline, group, hp["std_floor"])
        gradient = -(kept * advantage / (length.clamp(min=1) * rows))[:, None] * score
        out |= {f"{prefix}baseline": baseline, f"{prefix}grad": gradient.sum(0)}
        if not paper:
            out["out_advantages"] = advantage
    kl, ratio_of_tokens = distances(tensor(case, "logp"), tensor(case, "rollout_logp"), mask)
    out |= {"out_kl_rollout_old": kl, "out_is_geom_mean": ratio_of_tokens}
    ess = effective_sample_size(weight, hp["ess_eps"])
    ratio, ratio_kept = ess / rows, effective_sample_size(kept, hp["ess_eps"]) / rows
    driving = ratio_kept if hp["use_clipped_for_ess"] else ratio
    out |= {
        "out_ess": ess,
        "out_ess_ratio": ratio,
        "out_ess_ratio_clipped": ratio_kept,
        "out_lr_multiplier": torch.tensor(
            rate_multiplier(float(driving), hp["base_ess_ratio"], hp["scaling_rule"])
        ).double(),
    }
    return {k: np.asarray(v) for k, v in out.items()}
