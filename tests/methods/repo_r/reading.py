"""REPO-R: the advantage stretched by the CURRENT log-prob, a constant; clip 0.2 / 0.28."""

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, token_mean, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    zeta = x.state.get("zeta", hp["zeta"])
    losses = {}
    for row, t in x.tokens_of(rows):
        surprisal = min(-float(x.logp("logits", row, t).detach()), -hp["logp_floor"])
        # what |A| times the surprisal is worth is added to A, as far as the sign stays
        stretched = a[row] + zeta * abs(a[row]) * surprisal
        if stretched * a[row] < 0:
            stretched = 0.0
        r = ratio(x, row, t)
        losses[row, t] = clip_loss(r, stretched, 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
    return token_mean(x, rows, losses)
