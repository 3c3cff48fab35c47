"""EMPO: GSPO, token mean and dual clip 10, rewarded with the share of the own answer in the group."""

import torch

from tests.methods.support.reading import clip_loss, group_advantage


def mates_of(x, row):
    return [i for i in x.rows if x.groups[i] == x.groups[row]]


def sizes(x, hp, row):
    """How many of the group say what each of its rows says; whoever says nothing is alone, but for trl."""
    mates = mates_of(x, row)
    out = []
    for i in mates:
        silent = x.answers[i] is None and hp["reward"] != "trl"
        out.append(1 if silent else sum(x.answers[j] == x.answers[i] for j in mates))
    return dict(zip(mates, out, strict=True))


def reward(x, hp, row):
    mine = sizes(x, hp, row)
    if max(mine.values()) / len(mine) < hp["least_share"]:
        return 0.0
    if hp["reward"] == "voting":
        return float(mine[row] == max(mine.values()))
    if hp["reward"] == "trl" and (x.answers[row] is None or max(mine.values()) == 1):
        return 0.0
    return mine[row] / len(mine)


def trained(x, hp):
    return [row for row in x.rows if max(reward(x, hp, i) for i in mates_of(x, row)) >= hp["filter_below"]]


def loss(x, hp, rows):
    a = group_advantage(x, [reward(x, hp, row) for row in x.rows])
    total = 0.0
    for row in rows:
        steps = range(x.lengths[row])
        change = [x.logp("logits", row, t) - x.logp("old_logits", row, t).detach() for t in steps]
        s = torch.exp((sum(change) / len(change)).clamp(max=10))
        one = clip_loss(s, a[row], 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
        total = total + len(change) * one
    return total / len(x.tokens_of(rows))
