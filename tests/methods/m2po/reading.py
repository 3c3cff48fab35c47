"""M2PO: tokens drop out, or ratio bounds close, until the mean square log ratio fits its budget."""

import math

import torch

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, token_mean, verdict

trained = everything


def shrunk(values, budget, strict):
    """The keys that stay: the largest leaves while the mean of all that are there does not fit."""
    left = sorted(values, key=lambda key: values[key])
    while left:
        mean = sum(values[key] for key in left) / len(left)
        if mean < budget or (mean == budget and not strict) or (strict and len(left) == 1):
            break
        left.pop()
    return set(left)


def bound(values, budget):
    """The largest of the data's log ratios to which they may be capped without exceeding the budget."""
    if not values or sum(values) / len(values) <= budget + 1e-12:
        return None
    ascending, best = sorted(values), 0.0
    for value in ascending:
        cap = value - 1e-12
        if sum(v if v <= value else cap for v in ascending) >= len(ascending) * budget - 1e-12:
            break
        best = math.sqrt(cap)
    return best


def of_paper(x, hp, rows, a, d):
    values = {k: float(v.detach()) for k, v in d.items()}
    region = {k: v**2 for k, v in values.items() if a[k[0]] * v > 0}
    kept = shrunk(region, hp["m2_threshold"], strict=False)
    losses = {}
    for (row, t), v in d.items():
        dropped = (row, t) in region and (row, t) not in kept
        losses[row, t] = 0.0 * v if dropped else -a[row] * torch.exp(v)
    return token_mean(x, rows, losses)


def of_release(x, hp, rows, a, d):
    values = [(a[k[0]], float(v.detach())) for k, v in d.items()]
    region = [v**2 for sign, v in values if sign > 1e-12 and v > 1e-12]
    region += [v**2 for sign, v in values if sign < -1e-12 and v < -1e-12]
    t, low, high = bound(region, hp["m2_threshold"]), 0.0, 1e5
    if t is not None:
        low = 1 - max(1 - math.exp(-t), hp["miniclip_low"] or 0.0)
        high = 1 + max(math.exp(t) - 1, hp["miniclip_high"] or 0.0)
    losses = {(row, t): clip_loss(torch.exp(v), a[row], low, high) for (row, t), v in d.items()}
    return token_mean(x, rows, losses)


def of_areal(x, hp, rows, a):
    moved = {
        (row, t): float(x.logp("old_logits", row, t).detach() - x.rollout_logp[row, t]) ** 2
        for row, t in x.tokens_of(x.rows)
    }
    kept = shrunk(moved, hp["m2_threshold"], strict=True)
    here = [key for key in x.tokens_of(rows) if key in kept]
    losses = [clip_loss(ratio(x, row, t), a[row], 1 - hp["eps_low"], 1 + hp["eps_high"]) for row, t in here]
    return sum(losses) / len(here)


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    if x.variant == "areal":
        return of_areal(x, hp, rows, a)
    d = {(row, t): x.logp("logits", row, t) - x.rollout_logp[row, t].detach() for row, t in x.tokens_of(rows)}
    return (of_paper if x.variant == "paper" else of_release)(x, hp, rows, a, d)
