"""REINFORCE family: advantages by verl, OpenRLHF and TRL, and TRL's loss on whole responses."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.stages.credit import at_last_token, reference_kl, returns_to_go, whitened
from harness.stages.loss import FixedBounds, PolicyLoss
from harness.stages.ratios import ResponseRatio
from methods.reinforce_family import less_baseline, standardised
from tests.methods.support.golden import TRL_ROWS, loss_and_grad, make_batch, spread, tensor

#: OpenRLHF's estimators: baseline, and whether what comes out is whitened.
OPENRLHF = {
    "reinforce": ("none", "biased"),
    "rloo": ("leave-one-out", "none"),
    "reinforce_baseline": ("group", "biased"),
    "group_norm": ("group-norm", "none"),
    "dr_grpo": ("group", "none"),
}


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    score, group = tensor(case, "rewards"), tensor(case, "groups")
    batch = make_batch(
        mask, old={"logp": tensor(case, "old_logp")}, ref_logp_BT=tensor(case, "ref_logp"), group_B=group
    )
    kl = reference_kl(batch)

    def returns(score_B, gamma, coef=0.0):  # type: ignore[no-untyped-def]
        return returns_to_go(at_last_token(score_B, mask) - coef * kl, mask, gamma)

    def verl_whitened(value):  # type: ignore[no-untyped-def]
        return whitened(value, mask, "unbiased", hp["verl_whiten_eps"]) * mask

    out = {
        "out_advantages_rpp": verl_whitened(returns(score, hp["gamma"])),
        "out_advantages_rpp_baseline": verl_whitened(spread(less_baseline(score, group, "group"), mask)),
        "out_advantages_rloo": spread(less_baseline(score, group, "leave-one-out"), mask),
    }
    for name, (baseline, how) in OPENRLHF.items():
        shaped = less_baseline(score, group, baseline, hp["openrlhf_group_norm_eps"])
        if hp["openrlhf_reward_clip_range"] is not None:
            shaped = shaped.clamp(*hp["openrlhf_reward_clip_range"])
        gamma = hp["gamma"] if name == "reinforce" else 1.0
        credit = returns(shaped, gamma, hp["kl_coef"])
        out[f"out_advantages_openrlhf_{name}"] = whitened(credit, mask, how, hp["openrlhf_whiten_min_var"])

    advantage = less_baseline(score - hp["trl_beta"] * kl.sum(1), group, "leave-one-out")
    if hp["trl_normalize_advantages"]:
        advantage = standardised(advantage, hp["trl_std_eps"], hp["trl_std_ddof"])
    stage = PolicyLoss(
        ResponseRatio(), FixedBounds(hp["trl_epsilon"], hp["trl_epsilon"]), aggregation="seq-mean-token-mean"
    )
    trl = batch.with_(advantage_BT=spread(advantage, mask))
    loss, grad = loss_and_grad(stage, trl, tensor(case, "logp"), **TRL_ROWS)[:2]
    out |= {
        "out_advantages_trl_rloo": advantage,
        "out_loss_trl_rloo": loss,
        "out_grad_logp_trl_rloo": grad,
    }
    return {k: np.asarray(v) for k, v in out.items()}
