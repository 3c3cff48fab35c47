"""Entrocraft: the OLD policy's token-mean entropy of the whole batch against the band of this step."""

import math

from tests.methods.support.reading import clip_loss, group_advantage, ratio, token_mean, verdict


def gate(x, hp):
    tokens = x.tokens_of(list(x.rows))
    entropy = sum(float(x.entropy("old_logits", row, t)) for row, t in tokens) / len(tokens)
    cosine = (1 - math.cos(math.pi * x.fraction)) / 2
    u = {"linear": x.fraction, "cosine": cosine, "constant": 0.0}[hp["schedule"]]
    if entropy > hp["hi_start"] + (hp["hi_end"] - hp["hi_start"]) * u:
        return 1
    return -1 if entropy < hp["lo_start"] + (hp["lo_end"] - hp["lo_start"]) * u else 0


def trained(x, hp, paper=False):
    if not paper:
        return list(x.rows)
    a, g = group_advantage(x, verdict(x, 1.0, -1.0)), gate(x, hp)
    return [row for row in x.rows if g == 0 or g * a[row] >= 0]


def loss(x, hp, rows, paper=False):
    reward = verdict(x, 1.0, -1.0)
    a = group_advantage(x, reward)
    if not paper and gate(x, hp) > 0:
        a = [max(r, 0.0) for r in reward]
    if not paper and gate(x, hp) < 0:
        a = [min(r, 0.0) for r in reward]
    losses = {
        (row, t): clip_loss(ratio(x, row, t), a[row], 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
        for row, t in x.tokens_of(rows)
    }
    return token_mean(x, rows, losses)
