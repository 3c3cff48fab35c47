"""Clip_B / Clip_V: OLD policy, all rollouts together; tokens that are out leave loss and denominator."""

import math

import torch

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, verdict

trained = everything


def left_out(x, hp, a):
    signal = {}
    for key in x.tokens_of(x.rows):
        p = torch.softmax(x.old_logits[key] / x.temperature, 0).tolist()
        h = -sum(q * math.log(q) for q in p)
        s = [q * (h + math.log(q)) for q in p]
        own = s[x.tokens[key]]
        signal[key] = own if x.variant == "b" else sum(q * v for q, v in zip(p, s, strict=True)) - own
    n = len(signal)
    mean = sum(signal.values()) / n
    std = math.sqrt(sum((v - mean) ** 2 for v in signal.values()) / n)
    if x.variant == "b":
        return {k for k, v in signal.items() if a[k[0]] < 0 and v < mean - hp["mu"] * std}
    out = {k for k, v in signal.items() if a[k[0]] <= 0 and v > hp["mu"] * std}
    if len(out) / n > hp["max_fraction"]:
        worst = sorted((k for k in out if a[k[0]] < 0), key=lambda k: -signal[k])
        out = {k for k in out if a[k[0]] == 0} | set(worst[: max(int(hp["max_fraction"] * n), 1)])
    return out


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    out = left_out(x, hp, a)
    assert out, "nothing is left out: the case tests nothing"
    kept = [key for key in x.tokens_of(rows) if key not in out]
    low, high = 1 - hp["eps_low"], 1 + hp["eps_high"]
    return sum(clip_loss(ratio(x, *k), a[k[0]], low, high, hp["dual_clip"]) for k in kept) / len(kept)
