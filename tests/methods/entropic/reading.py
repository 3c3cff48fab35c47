"""EntroPIC: alpha from the CURRENT token entropies of the update's rows and the integral before it; the added
term is a mean over the tokens whose CURRENT probability exceeds p_min. Clip 0.2 / 0.2, cap 3."""

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
    keys = x.tokens_of(rows)
    entropy = sum(float(x.entropy("logits", *key).detach()) for key in keys) / len(keys)
    error = entropy - hp["target_entropy"]
    alpha = hp["kp"] * error + hp["ki"] * x.state["integral"]
    alpha = max(-hp["alpha_limit"], min(hp["alpha_limit"], alpha))
    losses, sure = {}, {}
    for row, t in keys:
        r = ratio(x, row, t)
        losses[row, t] = clip_loss(r, a[row], 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
        if float(x.logp("logits", row, t).detach().exp()) > hp["p_min"]:
            sure[row, t] = -alpha * abs(a[row]) * r
    if hp["aggregation"] == "token-mean":
        return token_mean(x, rows, losses) + (sum(sure.values()) / len(sure) if sure else 0.0)
    means = []
    for row in rows:
        own = [value for (r, _), value in sure.items() if r == row]
        means += [sum(own) / len(own)] if own else []
    return row_mean(x, rows, losses) + (sum(means) / len(means) if means else 0.0)
