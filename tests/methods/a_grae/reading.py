"""A-GRAE: focus by the prompt's own rate, mixed by the step's; right rollouts weakened early; token mean."""

import math

from tests.methods.support.reading import clip_loss, everything, ratio, token_mean, verdict

trained = everything


def credit(x, hp):
    r, eps = verdict(x, 1.0, 0.0), 1e-6
    members = {}
    for row in x.rows:
        members.setdefault(x.groups[row], []).append(r[row])
    p = {g: sum(own) / len(own) for g, own in members.items()}
    overall = sum(p.values()) / len(p)
    out = []
    for row in x.rows:
        own, q = members[x.groups[row]], p[x.groups[row]]
        a = r[row] - q
        if hp["scale"] == "group":
            a /= math.sqrt(sum((v - q) ** 2 for v in own) / (len(own) - 1)) + eps
        easy, hard = 0.5 * a / (1 - math.sqrt(q) + eps), 0.5 * a / (math.sqrt(q) + eps)
        a = (1 - overall) * easy + overall * hard
        out.append(a * min(1.0, overall / hp["alpha"]) if a > 0 else a)
    return out


def loss(x, hp, rows):
    a, low, high = credit(x, hp), 1 - hp["eps_low"], 1 + hp["eps_high"]
    losses = {}
    for row, t in x.tokens_of(rows):
        losses[row, t] = clip_loss(ratio(x, row, t), a[row], low, high, hp["dual_clip"])
    return token_mean(x, rows, losses)
