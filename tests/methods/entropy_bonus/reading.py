"""GRPO by tokens, minus c times the CURRENT policy's full-vocabulary entropy; KL on top or in the reward."""

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, token_mean, verdict

trained = everything


def loss(x, hp, rows):
    reward = verdict(x, 1.0, 0.0)
    if hp["kl_in_reward_coef"]:  # of the OLD policy against the reference, summed over the response
        for row, t in x.tokens_of(list(x.rows)):
            reward[row] -= hp["kl_in_reward_coef"] * float(
                x.logp("old_logits", row, t) - x.logp("ref_logits", row, t)
            )
    a = group_advantage(x, reward)
    weight = hp["entropy_coef"]
    if hp["entropy_adaptive"]:  # the entropy of the optimiser step before decides; none before the first
        weight = x.state["coef"] if x.state["last_entropy"] <= hp["entropy_target"] else 0.0
    losses = {}
    for row, t in x.tokens_of(rows):
        policy = clip_loss(ratio(x, row, t), a[row], 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
        losses[row, t] = policy - weight * x.entropy("logits", row, t)
        if hp["kl_coef"]:
            d = x.logp("logits", row, t) - x.logp("ref_logits", row, t)
            losses[row, t] = losses[row, t] + hp["kl_coef"] * ((-d).exp() + d - 1).clamp(-10, 10)
    return token_mean(x, rows, losses)
