"""Perplexity or place in the response: GRPO's advantage by OLD log-probs of the group (or the batch)."""

import math

from tests.methods.support.reading import (
    clip_loss,
    everything,
    group_advantage,
    ratio,
    row_mean,
    token_mean,
    verdict,
)

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    surprise = []
    for row in x.rows:
        logps = [float(x.logp("old_logits", row, t)) for t in range(x.lengths[row])]
        surprise.append(-sum(logps) / len(logps))
    losses = {}
    for row, t in x.tokens_of(rows):
        if hp["shaping"] == "position":
            sign = (a[row] > 0) - (a[row] < 0)
            place = hp["d"] * (t + 1) / x.lengths[row]
            credit = a[row] + sign * hp["gamma"] / (1 + math.exp(-place))
        else:
            whole = hp["scope"] == "batch"
            others = [surprise[i] for i in x.rows if whole or x.groups[i] == x.groups[row]]
            mean = sum(others) / len(others)
            std = math.sqrt(sum((v - mean) ** 2 for v in others) / (len(others) - 1))
            factor = 1 - hp["alpha"] * (surprise[row] - mean) / (std + 1e-8)
            credit = a[row] * (max(factor, 0.0) if hp["keep_sign"] else factor)
        losses[row, t] = clip_loss(ratio(x, row, t), credit, 1 - hp["eps_low"], 1 + hp["eps_high"])
    return (token_mean if hp["aggregation"] == "token-mean" else row_mean)(x, rows, losses)
