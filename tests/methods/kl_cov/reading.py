"""KL-Cov: no clip at all; beta |log-ratio| on the tokens of largest covariance with the CURRENT log-prob."""

from tests.methods.support.reading import everything, group_advantage, ratio, token_mean, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    tokens = x.tokens_of(rows)
    logp = {key: float(x.logp("logits", *key).detach()) for key in tokens}
    mean_a = sum(a[row] for row, _ in tokens) / len(tokens)
    mean_logp = sum(logp.values()) / len(tokens)
    order = sorted(tokens, key=lambda key: (mean_a - a[key[0]]) * (logp[key] - mean_logp))
    chosen = order[: max(1, int(len(tokens) * hp["share"]))]
    losses = {}
    for key in tokens:
        losses[key] = -a[key[0]] * ratio(x, *key)
        if key in chosen:
            distance = (x.logp("logits", *key) - x.logp("old_logits", *key).detach()).abs()
            if distance > 1e-5:  # less is the rounding of two forward passes
                losses[key] = losses[key] + hp["beta"] * distance
    return token_mean(x, rows, losses)
