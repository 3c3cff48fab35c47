"""DPPO: tokens whose two-point distribution moved too far away from the sampler's drop out; the others have
-min(r, cap) A logp (prime: -A r, and a square of the log ratio on every token)."""

import math

import torch

from tests.methods.support.reading import everything, token_mean, verdict

trained = everything


def centred(x):
    reward = verdict(x, 1.0, 0.0)
    mates = [[reward[i] for i in x.rows if x.groups[i] == x.groups[row]] for row in x.rows]
    return [reward[row] - sum(mates[row]) / len(mates[row]) for row in x.rows]


def keeps(p, mu, a, hp, kind):
    if kind == "kl":
        far = mu * math.log(mu / p) + (1 - mu) * math.log((1 - mu + 1e-8) / (1 - p + 1e-8))
        return p <= mu or far <= hp["delta_high"] if a > 0 else p >= mu or far <= hp["delta_low"]
    return p - mu <= hp["delta_high"] if a > 0 else p - mu >= -hp["delta_low"]


def loss(x, hp, rows):
    a, losses = centred(x), {}
    for row, t in x.tokens_of(rows):
        logp, sampled = x.logp("logits", row, t), x.rollout_logp[row, t]
        ratio = torch.exp(logp - sampled)
        p, mu = math.exp(float(logp.detach())), math.exp(float(sampled))
        m = float(keeps(p, mu, a[row], hp, x.variant))
        if x.variant == "prime":
            pull = hp["kl_tau"] * (logp - sampled) ** 2
            losses[row, t] = -m * hp["adv_tau"] * a[row] * ratio + pull
        else:
            weight = min(float(ratio.detach()), hp["cap"] or math.inf)
            losses[row, t] = -m * weight * a[row] * logp
    if x.variant == "prime":
        return token_mean(x, rows, losses)
    return sum(losses.values()) / (len(rows) * x.max_response_tokens)
