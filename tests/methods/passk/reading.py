"""Training for pass@k, by enumeration of the subsets of a group."""

import math
from itertools import combinations

import torch

from tests.methods.support.reading import clip_loss, everything, ratio, token_mean, verdict

trained = everything


def mean_max(reward, members, k):
    subsets = list(combinations(members, k))
    return sum(max(reward[i] for i in s) for s in subsets) / len(subsets)


def deviation(values, ddof):
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - ddof))


def training(reward, mates, i, hp):
    subsets = list(combinations(mates, hp["k"]))
    passes = [max(reward[j] for j in s) for s in subsets]
    own = [p for p, s in zip(passes, subsets, strict=True) if i in s]
    return (sum(own) / len(own) - sum(passes) / len(passes)) / (deviation(passes, 0) + hp["eps"])


def best(reward, mates, i, hp):
    values = sorted((reward[j] for j in mates), reverse=True)
    lead = values[0] - values[1] if reward[i] == values[0] else 0.0
    return lead / (deviation(values, 1) + hp["eps"]) if hp["norm_by_std"] else lead


def pkpo(reward, mates, i, hp, estimator=None):
    k, n = hp["k"], len(mates)
    own = [s for s in combinations(mates, k) if i in s]
    largest = sum(max(reward[j] for j in s) for s in own) / math.comb(n, k)
    match estimator or hp["estimator"]:
        case "raw":
            return largest
        case "loo":
            return largest - k / (n - 1) * mean_max(reward, [j for j in mates if j != i], k)
        case "binary":
            added = {j: pkpo(reward, mates, j, hp, "loo-1") * n / k for j in mates}
            return added[i] - sum(v for j, v in added.items() if j != i) / (n - 1)
    without = sum(max(reward[j] for j in s if j != i) for s in own) / math.comb(n, k)
    return largest - without


def loss(x, hp, rows):
    reward, losses = verdict(x, 1.0, 0.0), {}
    rule = {"training": training, "best": best, "pkpo": pkpo}[x.variant]
    for row in rows:
        a = rule(reward, [i for i in x.rows if x.groups[i] == x.groups[row]], row, hp)
        for t in range(x.lengths[row]):
            losses[row, t] = clip_loss(
                ratio(x, row, t), a, 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"]
            )
            if hp.get("kl_coef"):
                d = x.logp("logits", row, t) - x.logp("ref_logits", row, t).detach()
                k3 = (torch.exp(-d) + d - 1).clamp(-10, 10)
                losses[row, t] = losses[row, t] + hp["kl_coef"] * k3
    return token_mean(x, rows, losses)
