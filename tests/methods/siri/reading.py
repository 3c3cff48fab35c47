"""SIRI: GRPO on what was said within the limit; clip 0.2 / 0.28; mean over tokens, then over responses."""

from tests.methods.support.reading import (
    clip_loss,
    everything,
    group_advantage,
    ratio,
    row_mean,
    token_mean,
    verdict,
)

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    low, high, cap = 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"]
    losses = {(row, t): clip_loss(ratio(x, row, t), a[row], low, high, cap) for row, t in x.tokens_of(rows)}
    return (token_mean if hp["aggregation"] == "token-mean" else row_mean)(x, rows, losses)
