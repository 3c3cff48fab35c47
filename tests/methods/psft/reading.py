"""PSFT: PPO's clipped ratio with advantage 1 everywhere."""

from tests.methods.support.reading import clip_loss, everything, ratio, row_mean, token_mean

trained = everything


def loss(x, hp, rows):
    losses = {
        (row, t): clip_loss(ratio(x, row, t), 1.0, 1 - hp["eps_low"], 1 + hp["eps_high"])
        for row, t in x.tokens_of(rows)
    }
    return (token_mean if hp["aggregation"] == "token-mean" else row_mean)(x, rows, losses)
