"""GRPO: advantages, the four reductions, KL in the loss, clip fractions; verl's and TRL's conventions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.defaults import group_normalised
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio, clipped_tokens, log_ratio
from harness.stages.regularise import kl_estimate
from tests.methods.support.golden import AGGREGATION, TRL_ROWS, loss_and_grad, make_batch, spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    reward, group = tensor(case, "rewards"), tensor(case, "groups")
    logp, old, ref = (tensor(case, n) for n in ("logp", "old_logp", "ref_logp"))
    bounds = FixedBounds(hp["eps_low"], hp["eps_high"])
    verl, trl = {"eps": hp["std_eps_verl"]}, {"eps": hp["std_eps_trl"]}
    ddof = hp["std_ddof"]
    advantage = spread(group_normalised(reward, group, ddof=ddof, **verl), mask)
    out = {
        "out_advantages_verl": advantage,
        "out_advantages_verl_nostd": spread(group_normalised(reward, group, scale="none", **verl), mask),
        **{
            f"out_advantages_trl_{s}": group_normalised(reward, group, scale=s, ddof=ddof, **trl)
            for s in ("group", "batch", "none")
        },
    }
    batch = make_batch(mask, old={"logp": old}, advantage_BT=advantage)

    def loss(aggregation: str) -> PolicyLoss:
        ratio = TokenRatio(hp["log_ratio_clamp_verl"])
        return PolicyLoss(ratio, bounds, dual_clip=hp["clip_c"], aggregation=aggregation)

    for key, name in AGGREGATION.items():
        out[f"out_loss_{key}"], out[f"out_grad_logp_{key}"] = loss_and_grad(loss(name), batch, logp)[:2]

    ratio = log_ratio(logp, old, hp["log_ratio_clamp_verl"]).exp()
    clipped, capped = clipped_tokens(ratio, advantage, 1 - hp["eps_low"], 1 + hp["eps_high"], hp["clip_c"])
    out["out_clipfrac"] = aggregate("token-mean", clipped.to(mask.dtype), mask)
    out["out_clipfrac_lower"] = aggregate("token-mean", capped.to(mask.dtype), mask)

    def kl(clamps: dict[str, float | None], **rows: Any) -> tuple[np.ndarray, np.ndarray]:
        leaf = logp.clone().requires_grad_()
        k3 = kl_estimate("k3", leaf, ref, **clamps)
        value = hp["beta"] * aggregate("seq-mean-token-mean", k3, mask, **rows)
        return value.detach().numpy(), torch.autograd.grad(value, leaf)[0].numpy()

    policy = out["out_loss_seq_mean_token_mean"], out["out_grad_logp_seq_mean_token_mean"]
    penalty = kl({"exponent_clamp": hp["kl_exponent_clamp_verl"], "value_clamp": hp["kl_value_clamp_verl"]})
    out["out_loss_with_kl"], out["out_grad_logp_with_kl"] = policy[0] + penalty[0], policy[1] + penalty[1]

    theirs = batch.with_(advantage_BT=spread(out["out_advantages_trl_group"], mask))
    rows = PolicyLoss(TokenRatio(None), bounds, aggregation="seq-mean-token-mean")
    value, grad = loss_and_grad(rows, theirs, logp, **TRL_ROWS)[:2]
    extra = kl({"exponent_clamp": None, "value_clamp": None}, **TRL_ROWS)
    out["out_loss_trl_grpo"], out["out_grad_logp_trl_grpo"] = value + extra[0], grad + extra[1]
    tokens = PolicyLoss(TokenRatio(None), bounds, aggregation="token-mean")
    out["out_loss_trl_bnpo"], out["out_grad_logp_trl_bnpo"] = loss_and_grad(tokens, theirs, logp)[:2]
    return {k: np.asarray(v) for k, v in out.items()}
