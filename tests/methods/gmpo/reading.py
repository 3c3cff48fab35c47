"""GMPO: -A times the geometric mean of a response's ratios, each clipped where it would do harm."""

import math

import torch

from tests.methods.support.reading import everything, group_advantage, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    total = torch.zeros(())
    for row in rows:
        product = torch.ones(())
        for t in range(x.lengths[row]):
            r = torch.exp(x.logp("logits", row, t) - x.logp("old_logits", row, t).detach())
            if a[row] > 0:
                r = torch.clamp(r, max=math.exp(hp["eps_high"]))
            elif a[row] < 0:
                r = torch.clamp(r, min=math.exp(-hp["eps_low"]))
            product = product * r
        total = total - a[row] * product ** (1 / x.lengths[row])
    return total / len(rows)
