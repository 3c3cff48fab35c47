"""CE-GPPO: PPO-clip whose clipped tokens keep a constant share of their gradient; token mean, plus the mean
-logp of right responses over their own tokens."""

from tests.methods.support.reading import everything, group_advantage, ratio, token_mean, verdict

trained = everything


def token_loss(r, logp, a, hp):
    low, high = 1 - hp["eps_low"], 1 + hp["eps_high"]
    unit = 1 + logp - logp.detach()
    if a < 0 and r < low:
        out = -hp["beta1"] * low * a * unit
    elif a > 0 and r > high:
        out = -hp["beta2"] * high * a * unit
    else:
        out = -a * r
    cap = hp["dual_clip"]
    if cap is not None and a < 0 and out > -a * cap:
        out = 0 * out + -a * cap
    return out


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    losses = {
        (row, t): token_loss(ratio(x, row, t), x.logp("logits", row, t), a[row], hp)
        for row, t in x.tokens_of(rows)
    }
    total = token_mean(x, rows, losses)
    right = [x.logp("logits", row, t) for row, t in x.tokens_of(rows) if x.correct[row]]
    if right and hp["positive_nll"]:
        total = total - hp["positive_nll"] * sum(right) / len(right)
    return total
