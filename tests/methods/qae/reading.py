"""QAE: the smallest reward of the group that a share K of it does not exceed is its baseline."""

import math

from tests.methods.support.reading import clip_loss, everything, ratio, token_mean, verdict

trained = everything


def loss(x, hp, rows):
    reward, losses = verdict(x, 1.0, 0.0), {}
    for row, t in x.tokens_of(rows):
        mates = [reward[i] for i in x.rows if x.groups[i] == x.groups[row]]
        n, mean = len(mates), sum(mates) / len(mates)
        baseline = min(v for v in mates if sum(m <= v for m in mates) >= hp["k"] * n - 1e-9)
        std = math.sqrt(sum((m - mean) ** 2 for m in mates) / (n - hp["ddof"]))
        a = (reward[row] - baseline) / (std + hp["std_eps"])
        losses[row, t] = clip_loss(
            ratio(x, row, t), a, 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"]
        )
    return token_mean(x, rows, losses)
