"""Entropy bonus and KL penalties: values, gradients, KL in the reward, both adaptive coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.model.logits import token_stats
from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.credit import less_kl, mean_kl
from harness.stages.defaults import group_normalised
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from harness.stages.regularise import EntropyBonus, kl_estimate
from harness.stages.token_stats import ENTROPY, LOGP
from methods.entropy_bonus import AdaptiveEntropy, adapted_beta
from tests.methods.support.golden import AGGREGATION, TRL_ROWS, make_batch, spread, tensor


def stats_of(logits: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """Log-prob and entropy through the project's head, whose weight is the identity here."""
    rows, width, vocab = logits.shape
    flat = token_stats(
        logits.reshape(-1, vocab), torch.eye(vocab, dtype=logits.dtype), tokens.reshape(-1), (LOGP, ENTROPY)
    )
    return {k: v.reshape(rows, width) for k, v in flat.items()}


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask = case.hp, tensor(case, "mask")
    old, ref = tensor(case, "old_logp"), tensor(case, "ref_logp")
    batch = make_batch(mask, old={"logp": old}, advantage_BT=tensor(case, "advantages"))
    bounds = FixedBounds(hp["eps_low"], hp["eps_high"])
    out: dict[str, object] = {}

    def bonus_loss(stage: PolicyLoss, entropy_mode: str, **rows: Any) -> tuple[Tensor, Tensor]:
        logits = tensor(case, "logits").requires_grad_()
        current = stats_of(logits, tensor(case, "tokens"))
        prepared = stage.prepare(batch, {k: v.detach() for k, v in current.items()}).value
        bonus = EntropyBonus(hp["entropy_coef"], entropy_mode)
        policy = aggregate(stage.aggregation, stage(batch, current, prepared), mask, **rows)
        loss = policy + bonus.coefficient() * aggregate(entropy_mode, bonus(batch, current, {}), mask)
        return loss.detach(), torch.autograd.grad(loss, logits)[0]

    entropy = stats_of(tensor(case, "logits"), tensor(case, "tokens"))["entropy"]
    out["out_entropy"] = entropy
    for key in ("token_mean", "seq_mean_token_mean"):
        mode = AGGREGATION[key]
        stage = PolicyLoss(bounds=bounds, dual_clip=hp["clip_c"], aggregation=mode)
        out[f"out_entropy_agg_{key}"] = aggregate(mode, entropy, mask)
        out[f"out_loss_entropy_{key}"], out[f"out_grad_logits_entropy_{key}"] = bonus_loss(stage, mode)
    for key, mode in (("grpo", "seq-mean-token-mean"), ("dapo", "token-mean")):
        stage = PolicyLoss(TokenRatio(None), bounds, aggregation=mode)
        value, grad = bonus_loss(stage, "token-mean", **(TRL_ROWS if key == "grpo" else {}))
        out[f"out_loss_trl_{key}_entropy"], out[f"out_grad_logits_trl_{key}_entropy"] = value, grad

    for name in ("k1", "k2", "k3", "abs", "k1+", "k3+"):
        leaf, key = tensor(case, "logp").requires_grad_(), name.replace("+", "_plus")
        value = kl_estimate(
            name, leaf, ref, exponent_clamp=hp["kl_exponent_clamp"], value_clamp=hp["kl_value_clamp"]
        )
        loss = hp["kl_coef"] * aggregate("token-mean", value, mask)
        out[f"out_kl_{key}"], out[f"out_klloss_{key}"] = value.detach(), loss.detach()
        out[f"out_grad_logp_kl_{key}"] = torch.autograd.grad(loss, leaf)[0]

    kl_BT = (old - ref) * mask
    token_reward = less_kl(tensor(case, "rewards"), kl_BT, mask, hp["kl_in_reward_coef"])
    advantage = group_normalised(
        token_reward.sum(1), tensor(case, "groups"), eps=hp["std_eps"], ddof=hp["std_ddof"]
    )
    out["out_token_rewards_kl"], out["out_advantages_kl_in_reward"] = token_reward, spread(advantage, mask)

    adaptive = hp["adaptive_kl"]
    kl = mean_kl(kl_BT, mask)
    out["out_current_kl"] = kl
    out["out_adaptive_kl_coef"] = adapted_beta(
        adaptive["init"], kl, len(mask), adaptive["target"], adaptive["horizon"], adaptive["error_clip"]
    )

    rule = hp["adaptive_entropy"]
    names = ("coef", "target", "delta", "min", "max", "applied_before_first_observation")
    control = AdaptiveEntropy(*(rule[n] for n in names))
    applied, after = [], []
    for value in case["ae_entropy"].tolist():
        applied.append(control.applied())
        control.observe(value)
        after.append(control.coef)
    out["out_ae_applied"], out["out_ae_after"] = applied, after
    return {k: np.asarray(v) for k, v in out.items()}
