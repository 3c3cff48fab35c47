"""EPO: clipped loss by tokens, CURRENT entropies as a bonus and against a corridor around their history."""

import math

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


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    policy, entropy, penalty = {}, {}, {}
    history = x.state["total"] / x.state["rollouts"]
    low, high = hp["kappa_l"] * history, hp["kappa_r"] * history
    for row, t in x.tokens_of(rows):
        bounds = 1 - hp["eps_low"], 1 + hp["eps_high"]
        policy[row, t] = clip_loss(ratio(x, row, t), a[row], *bounds, hp["dual_clip"])
        entropy[row, t] = h = x.entropy("logits", row, t)
        now = float(h.detach())
        if x.variant == "paper":
            outside = low - h if now < low else (h - high if now > high else 0.0 * h)
            penalty[row, t] = hp["alpha"] * outside
        else:
            seen = now
            if hp["mode"] == "seq":
                own = [float(x.entropy("logits", row, k).detach()) for k in range(x.lengths[row])]
                seen = sum(own) / len(own)
            penalty[row, t] = torch.tensor(0.0 if low < seen < high else hp["alpha"])
    if x.variant == "paper":
        weight, mean = 1 + math.exp(-2 * hp["gamma"] * x.started), row_mean
    else:
        mean, epoch, weight = token_mean, 150 * x.started, hp["smooth_coef"]
        if hp["phase"]:
            early = 1 - 0.2 * (1 - math.exp(-2 * epoch / 75))
            weight *= early if epoch <= 75 else 0.8 * math.exp(-3 * (epoch - 75) / 75)
    inside = mean(x, rows, entropy) - weight * mean(x, rows, penalty)
    return token_mean(x, rows, policy) - hp["entropy_coef"] * inside
