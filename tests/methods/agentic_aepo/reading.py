"""Agentic AEPO: the advantage grows with a token's standardised entropy (the step's tokens, current weights;
in the paper's form the group's tokens, old policy); good tokens above the range keep 1 + eps_high."""

import math

from tests.methods.support.reading import everything, group_advantage, ratio, token_mean, verdict

trained = everything


def scores(values):
    """Standard scores by key, n - 1 in the variance."""
    mean = sum(values.values()) / len(values)
    std = math.sqrt(sum((h - mean) ** 2 for h in values.values()) / (len(values) - 1))
    return {key: (h - mean) / (std if std > 0 else 1.0) for key, h in values.items()}


def token_loss(r, logp, a, hp):
    low, high = 1 - hp["eps_low"], 1 + hp["eps_high"]
    if a > 0 and r > high:
        return -a * high * (1 + logp - logp.detach())
    if a < 0 and r < low:
        return 0 * r + -a * low
    cap = hp["dual_clip"]
    if a < 0 and cap is not None and r > cap:
        return 0 * r + -a * cap
    return -a * r


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    if x.variant == "paper":
        z = {}
        for group in set(x.groups):
            mates = [row for row in x.rows if x.groups[row] == group]
            z |= scores({key: float(x.entropy("old_logits", *key)) for key in x.tokens_of(mates)})
    else:
        z = scores({key: float(x.entropy("logits", *key).detach()) for key in x.tokens_of(rows)})
    losses = {}
    for row, t in x.tokens_of(rows):
        shaped = a[row] * (1 + hp["entropy_weight"] * z[row, t])
        losses[row, t] = token_loss(ratio(x, row, t), x.logp("logits", row, t), shaped, hp)
    return token_mean(x, rows, losses)
