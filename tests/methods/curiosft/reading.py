"""CurioSFT: cross-entropy, and half the squared distance to the teacher's log-prob at a higher temperature.

The teacher is the reference policy. Its temperature is found by halving an interval, token by token.
"""

import math

import torch

from tests.methods.support.reading import everything, row_mean, token_mean

trained = everything


def entropy(logits):
    p = torch.softmax(logits, 0)
    return float(-(p * torch.log(p.clamp(min=1e-300))).sum())


def temperature(z, hp):
    if entropy(z) <= hp["low_entropy"]:
        return hp["tau_min"]
    top = torch.sort(z, descending=True).values[: hp["top_k"]]
    now = entropy(top)
    wanted = now + hp["max_gain"] / (1 + math.exp(-hp["slope"] * (now - hp["pivot"])))
    low, high = hp["tau_min"], hp["tau_max"]
    if wanted <= entropy(top / low):
        return low
    if wanted >= entropy(top / high):
        return high
    for _ in range(hp["iterations"]):
        middle = (low + high) / 2
        if entropy(top / middle) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def loss(x, hp, rows):
    losses = {}
    for row, t in x.tokens_of(rows):
        z = x.ref_logits[row, t].detach() / x.temperature
        flat = z / temperature(z, hp)
        q = flat[x.tokens[row, t]] - torch.logsumexp(flat, 0)
        logp = x.logp("logits", row, t)
        losses[row, t] = -logp + hp["alpha"] * 0.5 * (logp - q) ** 2
    return (token_mean if hp["aggregation"] == "token-mean" else row_mean)(x, rows, losses)
