"""Clip-low / clip-high: GRPO's loss with each side of the clip on its own; None is off; no dual clip."""

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, row_mean, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    low = 0.0 if hp["eps_low"] is None else 1 - hp["eps_low"]
    high = float("inf") if hp["eps_high"] is None else 1 + hp["eps_high"]
    losses = {(row, t): clip_loss(ratio(x, row, t), a[row], low, high) for row, t in x.tokens_of(rows)}
    return row_mean(x, rows, losses)
