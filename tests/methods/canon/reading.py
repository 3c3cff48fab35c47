"""CANON: a group is cut in two by entropy or length; both halves' means are baselines."""

import math

import torch

from tests.methods.support.reading import clip_loss, everything, verdict

trained = everything


def cosine(step, peak, floor):
    if step < 30:
        return peak * (step + 1) / 30
    at = (step - 30) % 40
    return floor + (peak - floor) / 2 * (1 + math.cos(math.pi * at / 40))


def advantage(x, hp, row, mu):
    r = verdict(x, 1.0, 0.0)
    mates = [i for i in x.rows if x.groups[i] == x.groups[row]]
    if hp["metric"] == "length":
        metric = {i: x.lengths[i] for i in mates}
    elif hp["metric"] == "random":
        metric = {i: 0 for i in mates}
    else:
        metric = {
            i: sum(float(x.entropy("old_logits", i, t)) for t in range(x.lengths[i])) / x.lengths[i]
            for i in mates
        }
    ordered = sorted(mates, key=lambda i: metric[i])
    low, high = ordered[: len(mates) // 2], ordered[len(mates) // 2 :]
    b_low, b_high = sum(r[i] for i in low) / len(low), sum(r[i] for i in high) / len(high)
    alpha, beta = hp["alpha"], hp["beta"]
    if row in high:
        intra = r[row] - b_high
        inter = alpha * r[row] - b_low if hp["metric"] == "length" else r[row] - alpha * b_low
        return mu * (inter + beta) + (1 - mu) * intra
    intra = r[row] - b_low
    inter = r[row] - alpha * b_high if hp["metric"] == "length" else alpha * r[row] - b_high
    return mu * (inter - beta) + (1 - mu) * intra


def loss(x, hp, rows):
    step = round(x.fraction * 10)  # both kinds of step are of a run of ten
    mu = {
        "constant": hp["mu"],
        "anneal": sum(x.correct) / len(x.correct),
        "intra-first": 1 - cosine(step, 0.6, 0.0),
        "inter-first": cosine(step, 1.0, 0.4),
    }[hp["schedule"]]
    total = torch.zeros(())
    for row in rows:
        a = advantage(x, hp, row, mu)
        for t in range(x.lengths[row]):
            r = torch.exp(x.logp("logits", row, t) - x.logp("old_logits", row, t).detach())
            total = total + clip_loss(r, a, 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
    return total / x.max_response_tokens / len(rows)
