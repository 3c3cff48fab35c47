"""STEER: weight from CURRENT p, OLD q and OLD entropy; range over the minibatch; clip 0.2 / 0.28, cap 10."""

import math

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, token_mean, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    change = {}
    for row, t in x.tokens_of(rows):
        p = min(max(float(x.logp("logits", row, t).detach().exp()), 1e-8), 1 - 1e-8)
        q = min(max(float(x.logp("old_logits", row, t).exp()), 1e-8), 1.0)
        change[row, t] = abs(
            a[row] / q * p * (1 - p) * (math.log(p) + float(x.entropy("old_logits", row, t)))
        )
    small, large = min(change.values()), max(change.values())
    losses = {}
    for key, m in change.items():
        if hp["mode"] == "exponential":
            weight = max(math.exp(math.log(hp["w_min"]) * m / max(large, 0.02)), hp["w_min"])
        elif large > small:
            weight = hp["w_max"] + (hp["w_min"] - hp["w_max"]) * (m - small) / (large - small)
        else:
            weight = (hp["w_min"] + hp["w_max"]) / 2
        r = ratio(x, *key)
        losses[key] = weight * clip_loss(r, a[key[0]], 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
    return token_mean(x, rows, losses)
