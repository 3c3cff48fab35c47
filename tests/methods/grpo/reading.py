"""GRPO: reward 0/1, group advantage, clip, mean over responses of token means; k3 to the reference."""

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, row_mean, verdict

trained = everything


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, hp["reward_right"], hp["reward_wrong"]))
    losses = {}
    for row, t in x.tokens_of(rows):
        low, high = 1 - hp["eps_low"], 1 + hp["eps_high"]
        losses[row, t] = clip_loss(ratio(x, row, t), a[row], low, high, hp["dual_clip"])
        if hp["kl_coef"]:
            d = x.logp("logits", row, t) - x.logp("ref_logits", row, t)
            losses[row, t] = losses[row, t] + hp["kl_coef"] * ((-d).exp() + d - 1).clamp(-10, 10)
    return row_mean(x, rows, losses)
