"""Flexible entropy: bounds from the CURRENT probability; which side is wide by the share of the run that is
used when the step starts, or (OD) by the entropy of all rollouts under the OLD policy."""

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, row_mean, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    eps, u = hp["eps"], x.started
    raising = None
    if "h_min_frac" in hp:
        every = [float(x.entropy("old_logits", *key)) for key in x.tokens_of(x.rows)]
        now, first = sum(every) / len(every), x.state["h_init"]
        low = hp["h_min_frac"] * first
        assert not low < now <= low + (first - low) * (1 - u), "between the edges the state of before decides"
        raising = now <= low
    losses = {}
    for row, t in x.tokens_of(rows):
        p = float(x.logp("logits", row, t).detach().exp())
        upper, lower = hp["alpha_high"] * p + hp["beta_high"], hp["alpha_low"] * p + hp["beta_low"]
        if raising is not None:
            plus, minus = (upper, eps) if raising else (eps, lower)
        elif u <= hp["split"]:
            done = u / hp["split"]  # ID closes the upper threshold, DID opens it
            plus = upper + done * (eps - upper) if x.variant == "id" else eps + done * (upper - eps)
            minus = eps
        else:
            done = (u - hp["split"]) / (1 - hp["split"])
            plus = eps if x.variant == "id" else upper
            minus = lower + done * (eps - lower)
        losses[row, t] = clip_loss(ratio(x, row, t), a[row], 1 - minus, 1 + plus)
    return row_mean(x, rows, losses)
