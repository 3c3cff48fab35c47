"""DCPO: OLD logits again at a virtual temperature; a bonus on correct rollouts; clip 0.2, cap 3."""

import torch

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, token_mean, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    h = x.state["h"]
    hotter = hp["t_high"] if h <= hp["entropy_target"] else hp["t_low"]
    right = sum(x.correct) / len(x.correct)  # of all rollouts, not of the minibatch
    d = min(abs(hp["entropy_target"] - h), hp["gap_cap"]) / right
    alpha = d / (1 + d)
    losses = {}
    for row, t in x.tokens_of(rows):
        p = torch.softmax(x.old_logits[row, t] / x.temperature, 0)
        tempered = p ** (1 / hotter) / (p ** (1 / hotter)).sum()
        token = x.tokens[row, t]
        credit = (1 - alpha) * a[row] + alpha * x.correct[row] * float((tempered / p)[token])
        low, high = 1 - hp["eps_low"], 1 + hp["eps_high"]
        losses[row, t] = clip_loss(ratio(x, row, t), credit, low, high, hp["dual_clip"])
    return token_mean(x, rows, losses)
