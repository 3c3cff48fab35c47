"""The KL penalty: estimators, both losses and their gradients, TRL's forms, and the KL in the reward."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.credit import less_kl
from harness.stages.defaults import group_normalised
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from harness.stages.regularise import ReferenceKL, kl_estimate
from tests.methods.support.golden import TRL_ROWS, make_batch, spread, tensor


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, ref = case.hp, tensor(case, "mask"), tensor(case, "ref_logp")
    old, aggregation = tensor(case, "old_logp"), hp["loss_agg_mode"]
    batch = make_batch(mask, old={"logp": old}, ref_logp_BT=ref, advantage_BT=tensor(case, "advantages"))
    clamps = {"exponent_clamp": hp["k3_exponent_clamp"], "value_clamp": hp["k3_value_clamp"]}
    free = {"exponent_clamp": None, "value_clamp": None}
    verl_rows = {"length_eps": hp["length_eps"]}
    out: dict[str, Any] = {}

    def term(name: str, kl: ReferenceKL, ratio: TokenRatio, rows: dict[str, Any]) -> None:
        policy = PolicyLoss(ratio, FixedBounds(hp["eps_low"], hp["eps_high"]), aggregation=aggregation)
        leaf = tensor(case, "logp").requires_grad_()
        current = {"logp": leaf}
        prepared = policy.prepare(batch, {"logp": leaf.detach()}).value
        loss = aggregate(aggregation, policy(batch, current, prepared), mask, **rows)
        loss = loss + kl.coefficient() * aggregate(aggregation, kl(batch, current, {}), mask, **rows)
        out[f"out_loss_{name}"] = loss.detach()
        out[f"out_grad_logp_{name}"] = torch.autograd.grad(loss, leaf)[0]

    for estimator in ("k1", "abs", "k2", "k3", "k1+", "k3+"):
        name = estimator.replace("+", "_plus")
        out[f"out_kl_{name}"] = kl_estimate(estimator, tensor(case, "logp"), ref, **clamps)
        term(name, ReferenceKL(hp["coef"], estimator, **clamps), TokenRatio(hp["log_ratio_clamp"]), verl_rows)
    plain = TokenRatio(None)
    term("k3_trl", ReferenceKL(hp["coef"], "k3", **free), plain, TRL_ROWS)
    corrected = ReferenceKL(hp["coef"], "k3", **free, ratio=plain)
    term("k3_trl_bias_corrected", corrected, plain, TRL_ROWS)

    for estimator in ("k1", "abs", "k2", "k3"):
        kl: Tensor = kl_estimate(estimator, old, ref, **clamps) * mask
        token_reward = less_kl(tensor(case, "rewards"), kl, mask, hp["reward_coef"]) * mask
        reward = token_reward.sum(1)
        advantage = group_normalised(reward, tensor(case, "groups"), eps=hp["std_eps"], ddof=hp["std_ddof"])
        out[f"out_token_rewards_{estimator}"] = token_reward
        out[f"out_rewards_{estimator}"] = reward
        out[f"out_advantages_{estimator}"] = spread(advantage, mask)
    out["out_current_kl_k1"] = aggregate(
        "seq-mean-token-mean", (old - ref) * mask, mask, empty_rows=True, **verl_rows
    )
    return {k: np.asarray(v) for k, v in out.items()}
