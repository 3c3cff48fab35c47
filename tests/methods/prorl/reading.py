"""ProRL: groups of mixed verdicts; clip 0.2 / 0.4 with a dual clip, and k3 to the reference; token mean."""

import torch

from tests.methods.support.reading import clip_loss, group_advantage, ratio, token_mean, verdict


def trained(x, hp):
    return [row for row in x.rows if len({x.correct[i] for i in x.rows if x.groups[i] == x.groups[row]}) == 2]


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    losses = {}
    for row, t in x.tokens_of(rows):
        d = x.logp("logits", row, t) - x.logp("ref_logits", row, t).detach()
        kl = (torch.exp(-d) + d - 1).clamp(-10, 10)
        r = ratio(x, row, t)
        clipped = clip_loss(r, a[row], 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
        losses[row, t] = clipped + hp["kl_coef"] * kl
    return token_mean(x, rows, losses)
