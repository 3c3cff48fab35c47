"""VCPO: REINFORCE on truncated sequence weights, with a least-variance baseline per prompt."""

import math

import torch

from tests.methods.support.reading import everything, verdict

trained = everything


def loss(x, hp, rows):
    reward = verdict(x, 1.0, 0.0)
    total, weight, norm = {}, {}, {}
    for row in rows:
        total[row] = sum(x.logp("logits", row, t) for t in range(x.lengths[row]))
        drawn = sum(float(x.rollout_logp[row, t]) for t in range(x.lengths[row]))
        weight[row] = math.exp(float(total[row].detach()) - drawn)
        grads = torch.autograd.grad(total[row], x.parameters, retain_graph=True, allow_unused=True)
        norm[row] = math.sqrt(sum(float((g.double() ** 2).sum()) for g in grads if g is not None))
    kept = {row: min(weight[row], hp["threshold"]) for row in rows}
    importance = {}
    for row in rows:
        w = weight[row]
        if x.variant == "paper":
            importance[row] = (w * norm[row]) ** 2
        else:
            importance[row] = (kept[row] * norm[row]) ** 2
            if hp["use_is_weights"]:
                importance[row] *= (kept[row] if hp["use_truncated"] else w) ** 2
            if hp["by_length"]:
                importance[row] /= x.lengths[row] ** 2
    out = 0.0
    for row in rows:
        mates = [i for i in rows if x.groups[i] == x.groups[row]]
        b = sum(importance[i] * reward[i] for i in mates) / (sum(importance[i] for i in mates) + 1e-8)
        mean = sum(reward[i] for i in mates) / len(mates)
        std = math.sqrt(sum((reward[i] - mean) ** 2 for i in mates) / len(mates))
        a = (reward[row] - b) / (std if std > 1e-8 and hp["norm_by_std"] else 1.0)
        out = out - kept[row] * a * total[row] / x.lengths[row]
    return out / len(rows)
