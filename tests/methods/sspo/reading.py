"""SSPO: one ratio per sub-sentence, clipped by bounds that follow its old entropy; mean of means."""

import torch

from tests.methods.support.reading import (
    clip_loss,
    everything,
    group_advantage,
    row_mean,
    token_mean,
    verdict,
)

trained = everything


def segments(x, hp, row):
    """Lists of neighbouring tokens; one that contains a delimiter is its list's last."""
    found = [[]]
    for t in range(x.lengths[row]):
        found[-1].append(t)
        if set(x.pieces[int(x.tokens[row, t])]) & set(hp["delimiters"]):
            found.append([])
    return [tokens for tokens in found if tokens]


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    entropy = {key: float(x.entropy("old_logits", *key)) for key in x.tokens_of(rows)}
    mean = sum(entropy.values()) / len(entropy)
    losses = {}
    for row in rows:
        for tokens in segments(x, hp, row):
            change = [x.logp("logits", row, t) - x.logp("old_logits", row, t).detach() for t in tokens]
            s = torch.exp(sum(change) / len(change))
            factor = sum(entropy[row, t] for t in tokens) / len(tokens) / mean
            factor = min(max(factor, hp["scale_lo"]), hp["scale_hi"])
            low, high = 1 - hp["eps_low"] * factor, 1 + hp["eps_high"] * factor
            for t in tokens:
                losses[row, t] = clip_loss(s, a[row], low, high)
    return (token_mean if hp["aggregation"] == "token-mean" else row_mean)(x, rows, losses)
