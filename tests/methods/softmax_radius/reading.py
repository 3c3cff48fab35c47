"""Softmax radius: GRPO's loss; of the logits themselves comes the rate that the proxy leaves."""

import math

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, row_mean, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    losses = {
        key: clip_loss(ratio(x, *key), a[key[0]], 1 - hp["eps_low"], 1 + hp["eps_high"])
        for key in x.tokens_of(rows)
    }
    return row_mean(x, rows, losses)


def rate(x, hp, rows):
    """What the learning rate of the update is multiplied by."""
    if hp["rule"] != "output-proxy":
        return 1.0
    spreads, gaps = [], []
    for row, t in x.tokens_of(rows):
        z = sorted((x.logits[row, t] / x.temperature).tolist())
        spreads.append(z[-1] - z[0])
        gaps.append(z[-1] - z[-2])
    n = len(spreads)
    known = {"mean": sum(spreads) / n, "max": max(spreads), "top2": sum(gaps) / n}[hp["proxy"]]
    return min(1.0, max(0.01, math.pi / (known + 1e-6)))
