"""ETR (reconstruction): a clip range per rollout from |A|; explicit: also from its group's pass rate."""

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, row_mean, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    losses = {}
    for row, t in x.tokens_of(rows):
        mates = [x.correct[i] for i in x.rows if x.groups[i] == x.groups[row]]
        p = sum(mates) / len(mates)
        eps = hp["eps_0"] * (1 + hp["k_micro"] * abs(a[row]))
        if hp["macro"] == "explicit":
            eps *= 1 + hp["k_macro"] * 4 * p * (1 - p)
        losses[row, t] = clip_loss(ratio(x, row, t), a[row], 1 - min(eps, hp["cap"]), 1 + eps)
    return row_mean(x, rows, losses)
