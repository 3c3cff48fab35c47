"""MinPRO: -w A logp, w = (smallest ratio before the token) x (its own), between floor and cap; token mean."""

import math

from tests.methods.support.reading import everything, group_advantage, token_mean, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    losses = {}
    for row in rows:
        ratios = [
            math.exp(float(x.logp("logits", row, t).detach()) - float(x.logp("old_logits", row, t).detach()))
            for t in range(x.lengths[row])
        ]
        for t, own in enumerate(ratios):
            before = ratios[:t] + ([1.0] if hp["seeded"] else [])
            weight = min(before) * own if before else own
            weight = min(max(weight, hp["floor"]), hp["cap"])
            losses[row, t] = -weight * a[row] * x.logp("logits", row, t)
    return token_mean(x, rows, losses)
