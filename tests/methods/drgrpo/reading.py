"""Dr. GRPO: reward minus group mean; token sums divided by the token budget; mean over all responses."""

import torch

from tests.methods.support.reading import clip_loss, everything, verdict

trained = everything


def loss(x, hp, rows):
    reward = verdict(x, 1.0, 0.0)
    total = torch.zeros(())
    for row, t in x.tokens_of(rows):
        mates = [reward[i] for i in x.rows if x.groups[i] == x.groups[row]]
        a = reward[row] - sum(mates) / len(mates)
        logp = x.logp("logits", row, t)
        r = torch.exp(logp - x.logp("old_logits", row, t).detach())
        total = total + clip_loss(r, a, 1 - hp["eps_low"], 1 + hp["eps_high"])
        if hp["kl_coef"]:
            d = (x.logp("ref_logits", row, t).detach() - logp).clamp(-40, 40)
            total = total + hp["kl_coef"] * (torch.expm1(d) - d)
    return total / x.max_response_tokens / len(rows)
