"""G2RPO: rewards of mixed groups become normal quantiles by rank, and so do these in the whole batch."""

from statistics import NormalDist

from tests.methods.support.reading import clip_loss, ratio, token_mean, verdict


def trained(x, hp):
    def share(row):
        mates = [i for i in x.rows if x.groups[i] == x.groups[row]]
        return sum(x.correct[i] for i in mates) / len(mates)

    return [row for row in x.rows if hp["accuracy_low"] < share(row) < hp["accuracy_high"]]


def to_normal(values):
    n, ordered = len(values), sorted(round(v, 5) for v in values)
    quantile = [NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)]
    ties = {v: [q for q, o in zip(quantile, ordered, strict=True) if o == v] for v in ordered}
    return [sum(ties[round(v, 5)]) / len(ties[round(v, 5)]) for v in values]


def loss(x, hp, rows):
    reward, kept, y = verdict(x, 1.0, 0.0), trained(x, hp), {}
    for group in {x.groups[row] for row in kept}:
        mates = [row for row in kept if x.groups[row] == group]
        y |= dict(zip(mates, to_normal([reward[row] for row in mates]), strict=True))
    a = dict(zip(kept, to_normal([y[row] for row in kept]), strict=True))
    losses, nll = {}, {}
    for row, t in x.tokens_of(rows):
        losses[row, t] = clip_loss(
            ratio(x, row, t), a[row], 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"]
        )
        nll[row, t] = -x.logp("logits", row, t)
    h = token_mean(x, rows, nll)
    outside = h - hp["entropy_high"] if h > hp["entropy_high"] else hp["entropy_low"] - h
    if hp["entropy_low"] <= h <= hp["entropy_high"]:
        outside = 0.0
    return token_mean(x, rows, losses) + hp["entropy_coef"] * outside
