"""PEAR: OLD entropies before and after the mark, priced in the reward of right answers alone; token mean."""

import torch

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, token_mean

trained = everything


def phases(x, hp, row):
    """Tokens before and after the first mark; a token that holds a part of it is in neither."""
    texts = [x.pieces[int(x.tokens[row, t])] for t in range(x.lengths[row])]
    start = "".join(texts).find(hp["mark"])
    before, after, at = [], [], 0
    for t, text in enumerate(texts):
        first, at = at, at + len(text)
        if start < 0 or at <= start:
            before.append(t)
        elif first >= start + len(hp["mark"]):
            after.append(t)
    return before, after


def loss(x, hp, rows):
    reward = []
    for row in x.rows:
        means = []
        for tokens in phases(x, hp, row):
            entropies = [float(x.entropy("old_logits", row, t)) for t in tokens]
            means.append(sum(entropies) / len(entropies) if entropies else 0.0)
        price = max(0.0, means[0] - hp["alpha"] * means[1])
        reward.append(min(1.0, hp["score"] - price) if x.correct[row] else hp["wrong"])
    a, losses = group_advantage(x, reward), {}
    for row, t in x.tokens_of(rows):
        losses[row, t] = clip_loss(ratio(x, row, t), a[row], 1 - hp["eps_low"], 1 + hp["eps_high"])
        if hp["kl_coef"]:
            d = x.logp("logits", row, t) - x.logp("ref_logits", row, t).detach()
            losses[row, t] = losses[row, t] + hp["kl_coef"] * (torch.exp(-d) + d - 1).clamp(-10, 10)
    return token_mean(x, rows, losses)
