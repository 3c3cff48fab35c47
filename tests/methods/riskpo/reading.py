"""RiskPO: papers of a bundle, lower tail and middle range of their scores, credit for rollouts."""

import math

from tests.methods.support.reading import clip_loss, everything, ratio, token_mean, verdict

trained = everything


def spread(values):
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else 1.0


def quantile(values, level):
    ordered = sorted(values)
    place = level * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def above(value):
    return max(value, 0.0)


def limits(scores, hp, q):
    levels = (hp["quantile_down"], hp["quantile_up"])
    own = [quantile(scores, level) for level in levels]
    if q is None or hp["thresholds"] == "batch":
        return own
    tracked = [q[round(20 * level) - 1] for level in levels]
    if hp["thresholds"] == "track":
        return tracked
    return [(a + b) / 2 for a, b in zip(own, tracked, strict=True)]


def over_levels(values):
    """Their integral by trapezoids of width 0.05."""
    return sum(0.05 * (a + b) / 2 for a, b in zip(values, values[1:], strict=False))


def paper_advantage(score, scores, hp, q):
    down, up = hp["quantile_down"], hp["quantile_up"]
    low, high = limits(scores, hp, q)
    tail = -above(low - score)
    middle = above(score - low) - above(score - high) + (low - high if hp["natural_baseline"] else 0.0)
    if hp["mean_baseline"]:
        low_q, high_q = (q[round(20 * level) - 1] for level in (down, up))
        middle -= over_levels([above(v - low_q) - above(v - high_q) for v in q])
        tail -= over_levels([-above(low_q - v) for v in q])
    a = middle / (up - down + 1e-6)
    tail = tail / (down + 1e-6)
    if hp["measure"] == "upper":
        tail = above(score - high) / (1 - up + 1e-6)
    if hp["measure"] != "middle":
        a = (hp["w_mix"] * tail + a) / (hp["w_mix"] + 1)
    return a / (spread(scores) + 1e-6) if hp["norm_by_std"] else a


def share(row, mates, paper, reward, hp):
    """Factor on the paper's advantage; ``mates`` are the prompt's rollouts by row, ``paper`` all its rows."""
    if hp["credit"] == "uniform":
        return 1.0
    if hp["credit"] == "score":
        return 0.5 if reward[row] > 0 else 1.5
    if hp["credit"] == "std":
        d = spread([reward[i] for i in mates[row]])
        return 1 / ((d if d > 1e-3 else 1.0) + 1e-6)
    rho = {i: reward[i] - sum(reward[j] for j in mates[i]) / len(mates[i]) for i in paper}
    total = sum(rho.values())
    return rho[row] / total if abs(total) > 1e-6 else 1 / len(paper)


def credits(x, hp):
    reward, q = verdict(x, 1.0, 0.0), x.state.get("quantiles")
    mates = {row: [i for i in x.rows if x.groups[i] == x.groups[row]] for row in x.rows}
    out = {}
    for bundle in {g // hp["bundle_size"] for g in x.groups}:
        prompts = sorted({g for g in x.groups if g // hp["bundle_size"] == bundle})
        members = [[row for row in x.rows if x.groups[row] == g] for g in prompts]
        papers = list(zip(*members, strict=True))
        scores = [sum(reward[row] for row in paper) for paper in papers]
        for paper, score in zip(papers, scores, strict=True):
            a = paper_advantage(score, scores, hp, q)
            out |= {row: a * share(row, mates, paper, reward, hp) for row in paper}
    return out


def loss(x, hp, rows):
    a, losses = credits(x, hp), {}
    for row, t in x.tokens_of(rows):
        low, high = 1 - hp["eps_low"], 1 + hp["eps_high"]
        losses[row, t] = clip_loss(ratio(x, row, t), a[row], low, high, hp["dual_clip"])
    return token_mean(x, rows, losses)
