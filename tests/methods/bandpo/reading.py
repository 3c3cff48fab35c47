"""BandPO: PPO-clip whose bounds are searched for each token: how far may its probability fall and rise before
the divergence of (token, rest) exceeds the radius? Mean over a response's tokens, then over responses."""

import math

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, row_mean, verdict

trained = everything


def divergence(kind, p, q):
    if q <= 0 or q >= 1:
        at_zero = q <= 0
        if kind == "kl":
            return math.inf
        q = 0.0 if at_zero else 1.0
    if kind == "kl":
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    if kind == "tv":
        return abs(p - q)
    return (q - p) ** 2 / p + (q - p) ** 2 / (1 - p)


def furthest(kind, p, end, delta):
    """The probability between p and ``end`` at which the divergence reaches the radius, by halving."""
    if divergence(kind, p, end) <= delta:
        return end
    inside, outside = p, end
    for _ in range(80):
        middle = (inside + outside) / 2
        if divergence(kind, p, middle) <= delta:
            inside = middle
        else:
            outside = middle
    return inside


def loss(x, hp, rows):
    a, losses = group_advantage(x, verdict(x, 1.0, 0.0)), {}
    for row, t in x.tokens_of(rows):
        p = math.exp(float(x.logp("old_logits", row, t).detach()))
        low, high = (furthest(x.variant, p, end, hp["delta"]) / p for end in (0.0, 1.0))
        if hp["relax"]:
            low, high = min(low, 1 - hp["eps_low"]), max(high, 1 + hp["eps_high"])
        losses[row, t] = clip_loss(ratio(x, row, t), a[row], low, min(high, hp["cap"]), hp["dual_clip"])
    return row_mean(x, rows, losses)
