"""ARES: thresholds, counts, difficulty, targets, entropy score, weights of the KL, advantages and loss."""

from __future__ import annotations

import numpy as np
import torch

from harness.registry.golden import GoldenCase
from harness.stages.aggregate import aggregate
from harness.stages.defaults import group_normalised
from harness.stages.difficulty import DifficultyKL, DifficultyWeights, KLRule, difficulty
from harness.stages.loss import FixedBounds, PolicyLoss
from harness.stages.top_tokens import truncated_entropy
from methods.ares import adapted_alpha, bucket_means, counted, entropy_score, sample_threshold
from tests.methods.support.golden import loss_and_grad, make_batch, spread, tensor


def kl_weights(case: GoldenCase) -> tuple[np.ndarray, KLRule]:
    """beta after each call, ``[calls,3]``."""
    hp = case.hp
    rule = KLRule(
        hp["kl_target"], hp["interval"], hp["ema"], hp["beta_lr"], hp["err_clip"], hp["deadzone"],
        *hp["beta_range"], hp["beta_init"],
    )  # fmt: skip
    state, betas = rule.first(), []
    for kl, level in zip(case["kl_values"], case["kl_difficulty"], strict=True):
        own = [kl[level == d] for d in range(3)]
        state = rule.adapted(state, [float(v.mean()) if len(v) else None for v in own])
        betas.append(state.beta)
    return np.array(betas), rule


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, mask, group = case.hp, tensor(case, "mask"), tensor(case, "groups")
    top = tensor(case, "topk_logprobs")[..., : int(hp["topk"])]
    cut, full = truncated_entropy(top), truncated_entropy(top, tail=True)
    window, correct = int(hp["window"]), tensor(case, "correct")
    counts = counted(full, tensor(case, "trigger"), mask, window, float(case["threshold"]))
    level = difficulty(correct, group)
    means = bucket_means(counts.high_B, group, level)
    reward_level = tensor(case, "reward_difficulty")
    score = entropy_score(
        tensor(case, "reward_correct"), reward_level, tensor(case, "reward_num"),
        tensor(case, "reward_target"), tensor(case, "reward_alpha"),
    )  # fmt: skip
    reward = tensor(case, "reward_correct") + score
    advantage = spread(group_normalised(reward, group, eps=1e-6, ddof=1), mask)
    beta, rule = kl_weights(case)
    batch = make_batch(
        mask, group_B=group, old={"logp": tensor(case, "old_logp")}, ref_logp_BT=tensor(case, "ref_logp"),
        advantage_BT=advantage, tags={"difficulty": level},
    )  # fmt: skip
    bounds = FixedBounds(hp["clip_low"], hp["clip_high"])
    policy = PolicyLoss(bounds=bounds, dual_clip=hp["clip_dual"], aggregation="token-mean")
    logp = tensor(case, "logp")
    loss, grad = loss_and_grad(policy, batch, logp)[:2]
    kl, leaf = DifficultyKL(DifficultyWeights(rule), hp["kl_coef"]), logp.clone().requires_grad_()
    weight = torch.from_numpy(beta[-1])[level][:, None]
    pull = kl.coefficient() * aggregate(kl.aggregation, kl(batch, {"logp": leaf}, {"beta": weight}), mask)
    out = {
        "out_sample_entropy": (full * mask).sum(1) / mask.sum(1),
        "out_sample_threshold": sample_threshold(cut, mask, window, hp["percentile"]),
        "out_high_entropy_num": counts.high_B,
        "out_low_entropy_num": counts.low_B,
        "out_soft_cost": counts.excess_B,
        "out_difficulty": level,
        "out_bucket_present": [float(mean is not None) for mean in means],
        "out_target": [float(round(mean or 0.0)) for mean in means],
        "out_alpha_next": adapted_alpha(
            case["alpha_entropy"].tolist(), means, hp["alpha_lr"], *hp["alpha_range"]
        ),
        "out_rewards": reward,
        "out_beta": beta,
        "out_advantages": advantage,
        "out_loss": loss + pull.detach().numpy(),
        "out_grad_logp": grad + torch.autograd.grad(pull, leaf)[0].numpy(),
    }
    return {k: np.asarray(v) for k, v in out.items()}
