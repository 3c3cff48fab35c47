"""SFT: minus the log-prob of every token of every demonstration."""

from tests.methods.support.reading import everything, row_mean, token_mean

trained = everything


def loss(x, hp, rows):
    losses = {(row, t): -x.logp("logits", row, t) for row, t in x.tokens_of(rows)}
    return (token_mean if hp["aggregation"] == "token-mean" else row_mean)(x, rows, losses)
