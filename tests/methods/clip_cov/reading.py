"""Clip-Cov: CURRENT log-prob, means over the minibatch; drawn tokens lose their loss, not their count."""

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, token_mean, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    tokens = x.tokens_of(rows)
    low, high = 1 - hp["eps_low"], 1 + hp["eps_high"]
    logp = {key: float(x.logp("logits", *key).detach()) for key in tokens}
    old = {key: float(x.logp("old_logits", *key)) for key in tokens}
    divisor = len(tokens) + 1e-8
    mean_a = sum(a[row] for row, _ in tokens) / divisor
    mean_logp = sum(logp.values()) / divisor
    band = []
    for key in tokens:
        cov = (a[key[0]] - mean_a) * (logp[key] - mean_logp)
        r = 2.718281828459045 ** (logp[key] - old[key])
        clipped = (a[key[0]] > 0 and r > high) or (a[key[0]] < 0 and r < low)
        if hp["w_low"] < cov < hp["w_high"] and not clipped:
            band.append(key)
    band.sort(key=lambda key: float(x.draws[key]))
    dropped = band[: max(int(hp["share"] * len(tokens)), 1)]
    assert dropped, "nothing is in the band: the case tests nothing"
    losses = {}
    for key in tokens:
        losses[key] = (key not in dropped) * clip_loss(ratio(x, *key), a[key[0]], low, high)
    return token_mean(x, rows, losses)
