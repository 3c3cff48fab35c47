"""ERC: tokens whose CURRENT entropy left the band around the OLD one train no more, but are counted; clip
0.2 / 0.28, cap 10; plus the mean -logp of right responses over their own tokens."""

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, token_mean, verdict

trained = everything


def token_loss(r, logp, a, hp):
    low, high = 1 - hp["eps_low"], 1 + hp["eps_high"]
    if hp["base"] == "dapo":
        return clip_loss(r, a, low, high, hp["dual_clip"])
    unit = 1 + logp - logp.detach()
    if a < 0 and r < low:
        return -a * low * unit
    if a > 0 and r > high:
        return -a * high * unit
    capped = a < 0 and hp["dual_clip"] is not None and r > hp["dual_clip"]
    return 0 * r - a * hp["dual_clip"] if capped else -a * r


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    losses, right = {}, []
    for row, t in x.tokens_of(rows):
        logp = x.logp("logits", row, t)
        q = (float(x.entropy("logits", row, t).detach()) + 1e-8) / (
            float(x.entropy("old_logits", row, t)) + 1e-8
        )
        own = token_loss(ratio(x, row, t), logp, a[row], hp)
        losses[row, t] = own if hp["q_low"] < q < hp["q_high"] else own.detach()
        if x.correct[row]:
            right.append(-logp)
    total = token_mean(x, rows, losses)
    return total + hp["positive_nll"] * sum(right) / len(right) if right else total
