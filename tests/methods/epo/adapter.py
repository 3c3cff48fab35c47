"""EPO: phase weight, penalty, loss and gradient of the code's form and of the revised paper's."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.loss import FixedBounds, PolicyLoss
from harness.stages.token_stats import ENTROPY, LOGP
from methods.epo import (
    BY_ROW,
    constant_penalty,
    hinge_penalty,
    phase_weight,
    response_mean,
    smoothing_weight,
)
from tests.methods.support.golden import make_batch, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, tokens, turn = (
        case.hp,
        tensor(case, "mask"),
        tensor(case, "tokens"),
        tensor(case, "rollout_step"),
    )
    batch = make_batch(mask, old={"logp": tensor(case, "old_logp")}, advantage_BT=tensor(case, "advantages"))
    bounds = FixedBounds(hp["clip"], hp["clip"])
    stage = PolicyLoss(bounds=bounds, dual_clip=hp["clip_ratio_c"], aggregation="token-mean")
    history = tensor(case, "entropy_history")[turn][:, None]
    corridor = (history, hp["kappa_l"], hp["kappa_r"], hp["alpha"])
    out: dict[str, object] = {}
    for paper in (False, True):
        leaf = tensor(case, "logits").requires_grad_()
        flat = leaf.reshape(-1, leaf.shape[-1])
        current = {s.name: s.compute(flat, tokens.reshape(-1)).reshape(mask.shape) for s in (LOGP, ENTROPY)}
        policy = aggregate(
            stage.aggregation, stage(batch, current, stage.prepare(batch, current).value), mask
        )
        entropy = current["entropy"]
        if paper:
            how, penalty = BY_ROW, hinge_penalty(entropy, *corridor)
            weight = smoothing_weight(hp["epoch"], hp["max_epochs"], hp["gamma_paper"])
            out["out_beta_paper"] = weight
        else:
            # turns of agents and the padding in a mean are no part of the entry, whose responses are one turn
            seen = entropy if hp["mode"] == "token" else response_mean(entropy, torch.ones_like(mask))
            how, weight = "token-mean", phase_weight(hp["epoch"], hp["max_epochs"])
            late = bool((turn >= hp["max_step"] // 2).any())
            penalty = weight * constant_penalty(seen.detach(), *corridor) * late
            out |= {"out_epoch_weight": weight, "out_penalty": penalty}
            weight = hp["smooth_coef"]
        inside = aggregate(how, entropy, mask, length_eps=0.0) - weight * aggregate(
            how, penalty, mask, length_eps=0.0
        )
        loss = policy - hp["lambda_"] * inside
        (grad,) = torch.autograd.grad(loss, leaf)
        suffix = "_paper" if paper else ""
        out |= {f"out_loss{suffix}": loss.detach(), f"out_grad_logits{suffix}": grad}
    return {k: np.asarray(v) for k, v in out.items()}
