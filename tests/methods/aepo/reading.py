"""AEPO: the first m good tempered rows, with advantage 1, in the place of the first m normal rows."""

from tests.methods.support.reading import clip_loss, group_advantage, ratio, token_mean, verdict


def trained(x, hp):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    kept = [row for row in x.rows if x.tempered[row] and a[row] > hp["threshold"]]
    normal = [row for row in x.rows if not x.tempered[row]]
    m = min(round(hp["reinforce_share"] * len(normal)), len(kept))
    if x.state["h"] > hp["entropy_target"]:
        m //= 2
    return kept[:m] + normal[m:]


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    losses = {}
    for row, t in x.tokens_of(rows):
        credit = 1.0 if x.tempered[row] else a[row]
        r = ratio(x, row, t)
        losses[row, t] = clip_loss(r, credit, 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
    return token_mean(x, rows, losses)
