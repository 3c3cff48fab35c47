"""DISPO: -w A logp, w the ratio kept between bounds that depend on the sign of A; token mean."""

import math

from tests.methods.support.reading import everything, group_advantage, token_mean, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    losses = {}
    for row, t in x.tokens_of(rows):
        new, old = x.logp("logits", row, t), x.logp("old_logits", row, t)
        side = "pos" if a[row] > 0 else "neg"
        weight = math.exp(float(new.detach()) - float(old.detach()))
        weight = max(weight, 1 - hp[f"eps_low_{side}"])
        weight = min(weight, 1 + hp[f"eps_high_{side}"])
        losses[row, t] = -weight * a[row] * new
    return token_mean(x, rows, losses)
