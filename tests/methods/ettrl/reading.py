"""ETTRL: TTRL's update with each leaf's advantage scaled by how certain it is beside its mates."""

from tests.methods.support.reading import clip_loss, ratio, row_mean, token_mean
from tests.methods.ttrl.reading import advantage, k3, kept, trained  # noqa: F401


def mean_entropy(x, row):
    own = [float(x.entropy("old_logits", row, t)) for t in range(x.lengths[row])]
    before = float(x.tags["prefix_entropy"][row]) if "prefix_entropy" in x.tags else 0.0
    tokens = float(x.tags["cut"][row]) if "cut" in x.tags else 0.0
    return (sum(own) + before) / (len(own) + tokens)


def reshaped(x, hp, row):
    a = advantage(x, hp, row)
    if hp["reshape"] == "clip":
        return min(max(a, -hp["beta"]), hp["beta"])
    if hp["reshape"] == "none":
        return a
    mates = kept(x, hp, row)
    mean = sum(mean_entropy(x, i) for i in mates) / len(mates)
    return (2 - mean_entropy(x, row) / mean) * a


def loss(x, hp, rows):
    losses = {}
    for row in rows:
        a = reshaped(x, hp, row)
        for t in range(x.lengths[row]):
            policy = clip_loss(ratio(x, row, t), a, 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
            losses[row, t] = policy + hp["kl_coef"] * k3(x, row, t)
    return (token_mean if hp["aggregation"] == "token-mean" else row_mean)(x, rows, losses)
