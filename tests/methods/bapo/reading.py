"""BAPO: bounds searched over the minibatch's tokens, from the start values; then the clipped token mean."""

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, token_mean, verdict

trained = everything


def balance_released(items, low, high):
    positive = negative = 0.0
    for r, a, _ in items:
        value = (min(r, high) if a >= 0 else max(r, low)) * a
        if value > 0:
            positive += value
        else:
            negative -= value
    return positive / (negative + 1e-8) if negative > 0 else float("inf")


def balance_paper(items, low, high):
    def part(r, a, q, floor):
        return abs(q * min(r * a, min(max(r, floor), high) * a))

    total = sum(part(r, a, q, low) for r, a, q in items)
    return sum(part(r, a, q, 0.0) for r, a, q in items if a > 0) / total if total else float("inf")


def bounds(items, hp, paper):
    low, high = hp["low_start"], hp["high_start"]
    if paper:
        while balance_paper(items, low, high) < hp["target"] and low + hp["low_step"] <= hp["low_max"] + 1e-9:
            if high + hp["high_step"] <= hp["high_max"] + 1e-9:
                high += hp["high_step"]
            else:
                low += hp["low_step"]
        return low, high
    while low < hp["low_max"] and balance_released(items, low, high) < hp["target"]:
        low = min(low + hp["low_step"], hp["low_max"])
    while high < hp["high_max"] and balance_released(items, low, high) < hp["target"]:
        high = min(high + hp["high_step"], hp["high_max"])
    return low, high


def loss(x, hp, rows, paper=False):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    items = [
        (float(ratio(x, row, t).detach()), a[row], float(x.logp("old_logits", row, t).exp()))
        for row, t in x.tokens_of(rows)
    ]
    low, high = bounds(items, hp, paper)
    losses = {
        (row, t): clip_loss(ratio(x, row, t), a[row], low, high, hp["dual_clip"])
        for row, t in x.tokens_of(rows)
    }
    return token_mean(x, rows, losses)
