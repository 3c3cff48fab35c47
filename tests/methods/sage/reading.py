"""SAGE: GRPO on whatever group is kept; clip 0.2 / 0.28; mean over all tokens."""

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, token_mean, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    low, high, cap = 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"]
    return token_mean(
        x, rows, {(r, t): clip_loss(ratio(x, r, t), a[r], low, high, cap) for r, t in x.tokens_of(rows)}
    )
