"""Lp-Reg: proxy from the OLD logits (or the CURRENT ones), before the temperature; candidates are the least
likely CURRENT tokens of wrong responses among the update's; clip to [0, 10]; token mean."""

import math

import torch

from tests.methods.support.reading import clip_loss, everything, group_advantage, token_mean, verdict

trained = everything


def proxy(x, hp, row, t):
    """Log-probs of the proxy over the vocabulary."""
    z = (x.old_logits if hp["proxy"] == "old" else x.logits)[row, t].detach()
    p = torch.softmax(z, 0)
    threshold = hp["min_p"] * (float(p.max()) if hp["filter"] == "minp" else 1.0)
    low = float(z.min()) if hp["soft"] else -1e4
    kept = [float(z[v]) if float(p[v]) >= threshold else low for v in range(len(z))]
    return torch.log_softmax(torch.tensor(kept, dtype=z.dtype) / x.temperature, 0)


def divergence(x, hp, row, t, log_q):
    logp = x.logp("logits", row, t)
    if hp["kl"] == "full_forward":
        now = torch.log_softmax(x.logits[row, t] / x.temperature, 0)
        return sum(math.exp(q) * (q - p) for q, p in zip(log_q.tolist(), now, strict=True) if q > -1e3)
    d = log_q[x.tokens[row, t]] - logp
    if hp["kl"] == "k1":
        return -d
    return (torch.exp(d) - d - 1).clamp(-10, 10)


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    keys = x.tokens_of(rows)
    now = {key: float(x.logp("logits", *key).detach()) for key in keys}
    held = set()
    for sign, rho in ((-1, hp["rho"]), (1, hp["rho_pos"])):
        own = [key for key in keys if sign * a[key[0]] > 0]
        counted = keys if hp["quantile_scope"] == "batch" else own
        k = max(1, math.floor(len(counted) * rho + 1e-9))
        if k > 1:
            held |= set(sorted(counted, key=now.__getitem__)[:k]) & set(own)
    losses = {}
    for row, t in keys:
        r = torch.exp(x.logp("logits", row, t) - x.logp("old_logits", row, t).detach())
        losses[row, t] = clip_loss(r, a[row], 1 - hp["eps_low"], 1 + hp["eps_high"])
        if (row, t) in held:
            log_q = proxy(x, hp, row, t)
            if now[row, t] < float(log_q[x.tokens[row, t]]):
                losses[row, t] = -a[row] * r + hp["beta"] * divergence(x, hp, row, t, log_q)
    return token_mean(x, rows, losses)
