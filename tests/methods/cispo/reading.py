"""CISPO: -w A logp with the constant weight w = clip(r, floor, cap); token mean."""

from tests.methods.support.reading import everything, group_advantage, ratio, token_mean, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    losses = {}
    for row, t in x.tokens_of(rows):
        weight = min(max(float(ratio(x, row, t).detach()), hp["floor"]), hp["cap"])
        losses[row, t] = -weight * a[row] * x.logp("logits", row, t)
    return token_mean(x, rows, losses)
