"""VESPO: -phi A logp, phi = W^k exp(lambda (1 - W)) with W the product of a response's ratios; token mean."""

import math

from tests.methods.support.reading import everything, group_advantage, token_mean, verdict

trained = everything


def loss(x, hp, rows):
    a, losses = group_advantage(x, verdict(x, 1.0, 0.0)), {}
    for row in rows:
        w = 1.0
        for t in range(x.lengths[row]):
            old = float(x.logp("old_logits", row, t).detach())
            w *= math.exp(float(x.logp("logits", row, t).detach()) - old)
            if hp["sampler_cap"] is not None:
                w *= min(math.exp(old - float(x.rollout_logp[row, t])), hp["sampler_cap"])
        side = "neg" if a[row] < 0 else "pos"
        phi = w ** hp[f"k_{side}"] * math.exp(hp[f"lambda_{side}"] * (1 - w))
        for t in range(x.lengths[row]):
            losses[row, t] = -phi * a[row] * x.logp("logits", row, t)
    return token_mean(x, rows, losses)
