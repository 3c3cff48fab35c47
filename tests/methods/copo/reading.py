"""COPO: a loss inside the group and one between the prompts, mixed by the entropy of the group's answers."""

import math

from tests.methods.support.reading import (
    clip_loss,
    everything,
    group_advantage,
    ratio,
    row_mean,
    token_mean,
    verdict,
)

trained = everything


def mates_of(x, row):
    return [i for i in x.rows if x.groups[i] == x.groups[row]]


def bits(x, row):
    mates = mates_of(x, row)
    shares = [sum(x.answers[j] == a for j in mates) / len(mates) for a in {x.answers[i] for i in mates}]
    return -sum(p * math.log2(p + 1e-8) for p in shares)


def prompt_reward(x, hp, row):
    mates = mates_of(x, row)
    mean = sum(x.correct[i] for i in mates) / len(mates)
    if hp["reward_coef"]:
        mean *= 1 - (1 - 1 / len(mates)) / math.log2(len(mates)) * bits(x, row)
    return mean


def between(x, hp, row):
    all_ = [prompt_reward(x, hp, x.groups.index(g)) for g in sorted(set(x.groups))]
    mean = sum(all_) / len(all_)
    std = math.sqrt(sum((r - mean) ** 2 for r in all_) / (len(all_) - 1))
    return (prompt_reward(x, hp, row) - mean) / (std + 1e-6)


def weight(x, hp, row, local):
    soft = 1 / (1 + math.exp(-hp["k"] * (bits(x, row) - hp["b"])))
    mode = hp["mode"]
    if mode in ("only-global", "no-global"):
        return float(mode == "no-global")
    w = 1.0 if mode in ("only-zero", "only-forced") else soft
    if mode.endswith("zero") and not x.correct[row]:
        return 0.0
    return 0.0 if mode.endswith("forced") and local == 0 else w


def loss(x, hp, rows):
    local, losses = group_advantage(x, verdict(x, 1.0, 0.0)), {}
    for row in rows:
        w, wide = weight(x, hp, row, local[row]), between(x, hp, row)
        for t in range(x.lengths[row]):
            r, low, high = ratio(x, row, t), 1 - hp["eps_low"], 1 + hp["eps_high"]
            inside = clip_loss(r, local[row], low, high, hp["dual_clip"])
            losses[row, t] = w * inside + (1 - w) * clip_loss(r, wide, low, high, hp["dual_clip"])
    return (token_mean if hp["aggregation"] == "token-mean" else row_mean)(x, rows, losses)
