"""VADE changes which prompts come; on the rollouts it has the update is GRPO's."""

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, row_mean

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, [1.0 if c else 0.0 for c in x.correct])
    losses = {
        (row, t): clip_loss(ratio(x, row, t), a[row], 1 - hp["eps_low"], 1 + hp["eps_high"])
        for row, t in x.tokens_of(rows)
    }
    return row_mean(x, rows, losses)
