"""ARES: counts by OLD logits over all rollouts, a score added to the verdict, and a KL by difficulty.

The difficulty is the accuracy of the group. The weights of the KL move before the minibatch that moves them.
"""

import math

import torch

from tests.methods.support.reading import clip_loss, group_advantage, ratio, token_mean, verdict


def level(x, row):
    mates = [x.correct[i] for i in x.rows if x.groups[i] == x.groups[row]]
    share = sum(mates) / len(mates)
    return 0 if share >= 2 / 3 else (1 if share >= 1 / 3 else 2)


def percentile(values, percent):
    values, place = sorted(values), (len(values) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def entropy(x, hp, row, t):
    """Of the ten likeliest tokens and the rest as one (released), or of all."""
    p = torch.softmax(x.old_logits[row, t] / x.temperature, 0).tolist()
    if x.variant == "released":
        p = sorted(p, reverse=True)[: hp["top_k"]]
        p.append(1 - sum(p))
    return -sum(q * math.log(q) for q in p if q > 1e-12)


def windows(x, hp, row, tau):
    """Positions of triggers with an uncertain window behind them."""
    found = []
    for t in range(x.lengths[row] - hp["window"]):
        said = x.pieces[int(x.old_logits[row, t].argmax())].strip().lower()
        behind = [entropy(x, hp, row, k) for k in range(t + 1, t + 1 + hp["window"])]
        if said in hp["triggers"].split() and sum(behind) / len(behind) >= tau:
            found.append(t)
    return found


def threshold(x, hp):
    if x.variant == "released":
        return x.state["tau"]
    tops = []
    for row in x.rows:
        tops.append(percentile([entropy(x, hp, row, t) for t in range(x.lengths[row])], hp["percentile"]))
    return sum(tops) / len(tops)


def released_score(right, d, n, target, alpha):
    f, k, soft = (0.15, 0.25, 0.35)[d], (2.0, 3.0, 4.0)[d], (2.0, 2.5, 3.0)[d]
    cap = alpha * (1.0, 1.0, 1.2)[d]
    delta, margin = n - target, max(1.0, f * target)

    def fine(x, share=1.0):
        huber = x * x / (2 * k) if x <= k else x - k / 2
        return -min(cap, share * cap * huber / (margin + k))

    def gain(x):
        return cap / (1 + math.exp(-x / soft))

    if not right:
        return (0.6, 0.8, 1.0)[d] * gain(max(delta - margin, 0.0))
    if d == 2:
        return gain(delta + margin) if delta >= -margin else fine(-delta - margin, 0.5)
    return fine(max((abs(delta) if d == 1 else delta) - margin, 0.0))


def rewards(x, hp):
    tau = threshold(x, hp)
    counts = [len(windows(x, hp, row, tau)) for row in x.rows]
    levels = [level(x, row) for row in x.rows]
    out = verdict(x, 1.0, 0.0)
    for d in range(3):
        own = [row for row in x.rows if levels[row] == d]
        if not own:
            continue
        groups = {x.groups[row] for row in own}
        means = []
        for g in groups:
            of_group = [counts[row] for row in own if x.groups[row] == g]
            means.append(sum(of_group) / len(of_group))
        mean = sum(means) / len(means)
        if x.variant == "released":
            target = round(mean)
            alpha = x.state["alpha"][d] + hp["alpha_rate"] * (target - mean if d == 2 else mean - target)
            alpha = min(max(alpha, 0.0), hp["alpha_max"])
            for row in own:
                out[row] += released_score(x.correct[row], d, counts[row], target, alpha)
            continue
        target, every = x.state["target"][d], [counts[row] for row in own]
        expected = sum(every) / len(every)
        variance = sum((n - expected) ** 2 for n in every) / len(every)
        price = max(0.0, (expected - target) / (variance + 1e-6))
        for row in own:
            delta = counts[row] - target
            g = abs(delta) if d == 1 else max(delta if d == 0 else -delta, 0.0)
            out[row] -= 0.0 if x.correct[row] else price * g
    return out


def trained(x, hp):
    keep = hp.get("online_filter", "none")
    if keep == "none":
        return list(x.rows)
    value = rewards(x, hp) if keep == "overall" else verdict(x, 1.0, 0.0)
    kept = []
    for row in x.rows:
        mates = [value[i] for i in x.rows if x.groups[i] == x.groups[row]]
        if 0.01 < sum(mates) / len(mates) < 0.99:
            kept.append(row)
    return kept


def k3(x, row, t):
    d = x.logp("logits", row, t) - x.logp("ref_logits", row, t).detach()
    return (torch.exp(-d) + d - 1).clamp(-10, 10)


@torch.no_grad()
def weights(x, hp, rows):
    """beta of each difficulty after this minibatch's KL has moved it."""
    out = []
    for d in range(3):
        beta, before, error = (x.state[name][d] for name in ("beta", "kl", "error"))
        own = [row for row in rows if level(x, row) == d]
        if own:
            means = [sum(float(k3(x, i, t)) for t in range(x.lengths[i])) / x.lengths[i] for i in own]
            now = sum(means) / len(means)
            average = now if before is None else 0.97 * before + 0.03 * now
            off = average / hp["kl_target"] - 1
            if abs(off) >= 0.02 and (x.state["calls"] + 1) % hp["kl_interval"] == 0:
                error = 0.03 * off + 0.97 * error
                beta = math.exp(math.log(beta) + 0.05 * min(max(error, -0.2), 0.2))
        out.append(min(max(beta, 1e-4), 100.0))
    return out


def loss(x, hp, rows):
    a, beta, tau = group_advantage(x, rewards(x, hp)), weights(x, hp, rows), threshold(x, hp)
    losses = {}
    for row in rows:
        inside = set()
        if x.variant == "paper":
            inside = {t + k for t in windows(x, hp, row, tau) for k in range(1, hp["window"] + 1)}
        for t in range(x.lengths[row]):
            bounds = 1 - hp["eps_low"], 1 + hp["eps_high"]
            weight = beta[level(x, row)] * (hp["rho"] if t in inside else 1.0)
            policy = clip_loss(ratio(x, row, t), a[row], *bounds, hp["dual_clip"])
            losses[row, t] = policy + hp["kl_coef"] * weight * k3(x, row, t)
    return token_mean(x, rows, losses)
