"""GSPO: one ratio for a response, exp of its mean log ratio, clipped as a whole; mean over responses."""

import torch

from tests.methods.support.reading import clip_loss, everything, group_advantage, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    losses = []
    for row in rows:
        change = [
            x.logp("logits", row, t) - x.logp("old_logits", row, t).detach() for t in range(x.lengths[row])
        ]
        s = torch.exp((sum(change) / len(change)).clamp(max=10))
        losses.append(clip_loss(s, a[row], 1 - hp["eps_low"], 1 + hp["eps_high"]))
    return sum(losses[1:], losses[0]) / len(rows)
