"""GRPO with the KL to the reference in the loss or in the reward, by estimator."""

import torch

from tests.methods.support.reading import (
    clip_loss,
    everything,
    group_advantage,
    ratio,
    row_mean,
    token_mean,
    verdict,
)

trained = everything


def estimate(d, name):
    if name == "k3":
        return (torch.exp(-d) + d - 1).clamp(-10, 10)
    return {"k1": d, "abs": d.abs(), "k2": d * d / 2}[name]


def loss(x, hp, rows):
    score = verdict(x, 1.0, 0.0)
    if x.variant == "reward":
        for row in x.rows:
            for t in range(x.lengths[row]):
                d = x.logp("old_logits", row, t) - x.logp("ref_logits", row, t)
                score[row] -= hp["coef"] * float(estimate(d, hp["estimator"]))
    a = group_advantage(x, score)
    losses = {}
    for row, t in x.tokens_of(rows):
        losses[row, t] = clip_loss(ratio(x, row, t), a[row], 1 - hp["eps_low"], 1 + hp["eps_high"])
        if x.variant == "loss":
            d = x.logp("logits", row, t) - x.logp("ref_logits", row, t).detach()
            if hp["estimator"] == "k3+":  # k3's value, k2's gradient
                kl = d * d / 2 + (estimate(d, "k3") - d * d / 2).detach()
            elif hp["bias_corrected"]:
                r = torch.exp(x.logp("logits", row, t) - x.logp("old_logits", row, t).detach())
                kl = r * (torch.exp(-d) + d - 1 if hp["estimator"] == "k3" else estimate(d, hp["estimator"]))
            else:
                kl = estimate(d, hp["estimator"])
            losses[row, t] = losses[row, t] + hp["coef"] * kl
    return (token_mean if hp["aggregation"] == "token-mean" else row_mean)(x, rows, losses)
