"""SIREN: the nucleus of the CURRENT policy at the run's temperature, peaks within each response, the squared
distance of the update's mean to the anchor. Advantages without a std, cap 3, token sums over the budget."""

import math

import torch

from tests.methods.support.reading import clip_loss, everything, ratio, verdict

trained = everything


def nucleus_entropy(x, hp, row, t):
    p = torch.softmax(x.logits[row, t] / x.temperature, 0)
    known = p.detach().tolist()
    kept, reached = [], 0.0
    for v in sorted(range(len(known)), key=lambda v: -known[v])[: hp["top_k"]]:
        before, reached = reached, reached + known[v]
        if (before if hp["nucleus"] == "inclusive" else reached) < hp["top_p"]:
            kept.append(v)
    # the 1e-12 of the code orders single tokens, whose entropy is 0 but for it
    q = p[kept] / (p[kept].sum() + 1e-12)
    return -(q * torch.log(q + 1e-12)).sum()


def quantile(values, tau):
    ordered = sorted(values)
    place = tau * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def loss(x, hp, rows):
    reward = verdict(x, 1.0, 0.0)
    total, means = 0, []
    for row in rows:
        mates = [reward[i] for i in x.rows if x.groups[i] == x.groups[row]]
        a = reward[row] - sum(mates) / len(mates)
        entropies = [nucleus_entropy(x, hp, row, t) for t in range(x.lengths[row])]
        bound = quantile([float(h.detach()) for h in entropies], hp["quantile"])
        peaks = [h for h in entropies if float(h.detach()) > bound]
        means.append(sum(peaks) / len(peaks) if peaks else 0.0)
        for t in range(x.lengths[row]):
            r = ratio(x, row, t)
            total = total + clip_loss(r, a, 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
    total = total / x.max_response_tokens / len(rows)
    anchor = hp["anchor"] if hp["anchor"] is not None else x.state["anchor"]
    return total + hp["coef"] * (sum(means) / len(means) - anchor) ** 2
