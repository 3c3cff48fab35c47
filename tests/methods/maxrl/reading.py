"""MaxRL: the reward less the mean of its group, over that mean."""

from tests.methods.support.reading import clip_loss, everything, ratio, token_mean, verdict

trained = everything


def loss(x, hp, rows):
    reward, losses = verdict(x, 1.0, 0.0), {}
    for row, t in x.tokens_of(rows):
        mates = [reward[i] for i in x.rows if x.groups[i] == x.groups[row]]
        mean = sum(mates) / len(mates)
        a = (reward[row] - mean) / (mean + hp["eps"]) if mean > 0 else 0.0
        losses[row, t] = clip_loss(
            ratio(x, row, t), a, 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"]
        )
    return token_mean(x, rows, losses)
