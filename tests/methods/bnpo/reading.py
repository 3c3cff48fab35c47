"""BNPO: one Beta density for all prompts divides the centred reward; clip 0.2 / 0.28, token sums."""

import math

import torch

from tests.methods.support.reading import clip_loss, everything, ratio, verdict

trained = everything


def credit(x, hp):
    low, high = hp["r_min"], hp["r_max"]
    reward = [(r - low) / (high - low) for r in verdict(x, 1.0, 0.0)]
    members = {}
    for row in x.rows:
        members.setdefault(x.groups[row], []).append(reward[row])
    p = {g: sum(own) / len(own) for g, own in members.items()}
    m = sum(p.values()) / len(p)
    v = sum((q - m) ** 2 for q in p.values()) / (len(p) - 1)
    a = b = 0.0
    if v > 0:
        a, b = ((m * (1 - m) / v - 1) * share for share in (m, 1 - m))
    alpha, beta = max(1.0, 1 + a / hp["divisor"]), max(1.0, 1 + b / hp["divisor"])

    def weight(q):
        area = math.gamma(alpha) * math.gamma(beta) / math.gamma(alpha + beta)
        density = q ** (alpha - 1) * (1 - q) ** (beta - 1) / area
        return hp["weight_cap"] if density == 0 else min(1 / density, hp["weight_cap"])

    return [weight(p[x.groups[row]]) * (reward[row] - p[x.groups[row]]) for row in x.rows]


def loss(x, hp, rows):
    a, low, high = credit(x, hp), 1 - hp["eps_low"], 1 + hp["eps_high"]
    total = torch.zeros(())
    for row, t in x.tokens_of(rows):
        total = total + clip_loss(ratio(x, row, t), a[row], low, high, hp["dual_clip"])
    return total / len(rows)
