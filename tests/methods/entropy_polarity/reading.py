"""The stand-in for polarity control: sign of A T under the OLD policy, a shift from the entropies so far."""

import torch

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, row_mean, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    first = x.state["reference"]
    shift = hp["kappa"] * (first - x.state["average"]) / first
    shift = max(-hp["limit"], min(hp["limit"], shift))
    losses = {}
    for row, t in x.tokens_of(rows):
        p = torch.softmax(x.old_logits[row, t] / x.temperature, 0)
        surprise = p.log() - (p * p.log()).sum()
        token = x.tokens[row, t]
        factor = float((p**2 * surprise).sum() - p[token] * surprise[token])
        credit = a[row] * (1 + shift if a[row] * factor > 0 else 1 - shift)
        losses[row, t] = clip_loss(ratio(x, row, t), credit, 1 - hp["eps_low"], 1 + hp["eps_high"])
    return row_mean(x, rows, losses)
