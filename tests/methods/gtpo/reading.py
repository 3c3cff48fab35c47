"""GTPO: runs of tokens shared by good and bad responses of a whole group; CURRENT entropy as a price."""

import math

import torch

from tests.methods.support.reading import everything, verdict

trained = everything


def run(x, row, a, backward):
    """How many tokens from the one end stand in a good and in a bad response of the group."""

    def at(i, t):
        return int(x.tokens[i, x.lengths[i] - 1 - t if backward else t])

    mates = [i for i in x.rows if x.groups[i] == x.groups[row]]
    t = 0
    while a[row] != 0 and t < x.lengths[row]:
        same = [i for i in mates if t < x.lengths[i] and at(i, t) == at(row, t)]
        if not (any(a[i] > 0 for i in same) and any(a[i] < 0 for i in same)):
            break
        t += 1
    return t


def loss(x, hp, rows):
    released = x.variant == "released"
    reward = verdict(x, 1.0, 0.0)
    a, size = [], max(x.groups.count(g) for g in x.groups)
    for row in x.rows:
        mates = [reward[i] for i in x.rows if x.groups[i] == x.groups[row]]
        a.append(reward[row] - sum(mates) / len(mates))
    losses = []
    for row in rows:
        first, last, length = run(x, row, a, False), run(x, row, a, True), x.lengths[row]
        h = 0.0
        for t in range(length):
            p = torch.softmax(x.logits[row, t].detach() / x.temperature, 0).tolist()
            h -= sum(q * math.log(max(q, 1e-6)) for q in p) / length
        exempt = not released and x.state["first_entropy"] > hp["tau"]
        credit = a[row] - hp["gamma"] * h if exempt or h <= hp["tau"] else 0.0
        total = torch.zeros(())
        for t in range(length):
            factor = 1.0
            for inside in (t < first, t >= length - last):
                if inside:
                    factor *= hp["w"] if a[row] > 0 else 0.0
            logp = x.logp("logits", row, t)
            total = total - torch.exp(logp - logp.detach()) * factor * credit
        losses.append(total / length / (max(first, last, 1) if released else 1))
    return sum(losses[1:], losses[0]) / len(rows) * (size if released else 1)
