"""ERA: the CURRENT logits times a factor by their own entropies, the OLD ones by theirs; cap 10."""

import torch

from tests.methods.support.reading import clip_loss, everything, group_advantage, token_mean, verdict

trained = everything


def factor(x, hp, which, row, a, released):
    if (int(a) if released else a) <= 0:
        return 1.0
    length = x.lengths[row]
    entropies = sorted((float(x.entropy(which, row, t).detach()) for t in range(length)), reverse=True)
    largest = entropies[: max(1, length // 5)]
    h = sum(largest) / len(largest)
    return hp["k"] if h < hp["w_low"] else (1 / hp["k"] if h > hp["w_high"] else 1.0)


def logp(x, hp, which, row, t, f):
    z = f * getattr(x, which)[row, t] / x.temperature
    token = int(x.tokens[row, t])
    if hp["top_k"] is not None:
        largest = sorted(range(len(z)), key=lambda v: -float(z[v].detach()))[: hp["top_k"]]
        if token not in largest:
            return torch.tensor(-1e4, dtype=z.dtype)
        return z[token] - torch.logsumexp(z[largest], 0)
    return z[token] - torch.logsumexp(z, 0)


def loss(x, hp, rows):
    released = x.variant == "released"
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    losses, scaled = {}, 0
    for row in rows:
        now = factor(x, hp, "logits", row, a[row], released)
        before = factor(x, hp, "old_logits", row, a[row], released)
        scaled += now != 1
        credit = a[row] if released else a[row] / now
        for t in range(x.lengths[row]):
            d = logp(x, hp, "logits", row, t, now) - logp(x, hp, "old_logits", row, t, before).detach()
            r = torch.exp(d.clamp(-20, 20))
            losses[row, t] = clip_loss(r, credit, 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
    return token_mean(x, rows, losses)
