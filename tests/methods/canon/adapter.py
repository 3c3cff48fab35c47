"""CANON: advantages by metric and schedule, loss and gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.registry.golden import GoldenCase
from harness.stages.groups import per_group
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from methods.canon import conditional_advantage, scheduled_mu
from tests.methods.support.golden import VERL_ROWS, loss_and_grad, make_batch, spread, tensor


def metric_of(case: GoldenCase, variant: str) -> Tensor:
    mask = tensor(case, "mask")
    if "length" in variant:
        return mask.sum(1)
    if "random" in variant:
        return torch.arange(len(mask)).double()
    return (tensor(case, "entropy") * mask).sum(1) / mask.sum(1)


def step_of(case: GoldenCase) -> int | None:
    """The step of a scheduled variant, wherever a case keeps it."""
    for place in (case.hp, case.meta, case.arrays):
        for key in ("step", "global_step", "global_steps"):
            if key in place:
                return int(place[key])
    return None


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, variant = case.hp, tensor(case, "mask"), str(case.meta["variant"])
    reward, metric = tensor(case, "rewards"), metric_of(case, variant)
    # the code divides by the response budget where it sums over tokens, and only there
    budget = hp["max_length"] if hp["loss_agg_mode"] == "seq-mean-token-sum" else 1

    def advantages(mu: float, alpha: float = 1.0, beta: float = 0.0) -> Tensor:
        """Schedules of mu have no alpha and no beta."""

        def formula(reward_n: Tensor, metric_n: Tensor) -> Tensor:
            return conditional_advantage(reward_n, metric_n, mu, alpha, beta, long="length" in variant)

        return spread(per_group(formula, tensor(case, "groups"), reward, metric) / budget, mask)

    out: dict[str, Any] = {"out_advantages_anneal": advantages(float(reward.mean()))}
    step = step_of(case)
    if step is not None:
        out["out_mu"] = scheduled_mu("intra-first", 0.0, step, 0.0)
        out["out_advantages_reverse"] = advantages(scheduled_mu("inter-first", 0.0, step, 0.0))
    if step is not None and ("cos" in variant or "_lambda" not in hp):
        advantage = advantages(out["out_mu"])
    elif "ann" in variant:  # the official name is "annel"
        advantage = out["out_advantages_anneal"]
    else:
        advantage = advantages(hp.get("_lambda", 1.0), hp.get("alpha", 1.0), hp.get("beta", 0.0))
    stage = PolicyLoss(
        TokenRatio(None),
        FixedBounds(hp["clip_ratio_low"], hp["clip_ratio_high"]),
        dual_clip=hp["clip_ratio_c"],
        aggregation=hp["loss_agg_mode"],
    )
    batch = make_batch(mask, old={"logp": tensor(case, "old_logp")}, advantage_BT=advantage)
    loss, grad = loss_and_grad(stage, batch, tensor(case, "logp"), **VERL_ROWS)[:2]
    out |= {"out_advantages": advantage, "out_loss": loss, "out_grad_logp": grad}
    return {k: np.asarray(v) for k, v in out.items()}
