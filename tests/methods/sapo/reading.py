"""SAPO: -A (4 / tau) / (1 + exp(-tau (r - 1))); mean over a response's tokens, then over responses."""

import torch

from tests.methods.support.reading import everything, group_advantage, ratio, row_mean, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    losses = {}
    for row, t in x.tokens_of(rows):
        tau = hp["tau_pos"] if a[row] > 0 else hp["tau_neg"]
        losses[row, t] = -a[row] * (4 / tau) / (1 + torch.exp(-tau * (ratio(x, row, t) - 1)))
    return row_mean(x, rows, losses)
