"""PSR trains on right rows, NSR on wrong ones, W-REINFORCE on all: A is 1 or lambda, and -1."""

import torch

from tests.methods.support.reading import clip_loss, token_mean


def trained(x, hp):
    wanted = {"psr": [True], "nsr": [False], "w": [True, False]}[x.variant]
    return [row for row in x.rows if x.correct[row] in wanted]


def loss(x, hp, rows):
    losses = {}
    for row, t in x.tokens_of(rows):
        a = hp.get("positive_weight", 1.0) if x.correct[row] else -1.0
        r = torch.exp(x.logp("logits", row, t) - x.logp("old_logits", row, t).detach())
        losses[row, t] = clip_loss(r, a, 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
        losses[row, t] = losses[row, t] - hp["entropy_coef"] * x.entropy("logits", row, t)
    return token_mean(x, rows, losses)
