"""BuPO: the clip loss of what the head says behind a layer, and of the whole policy after some steps."""

import torch

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, token_mean, verdict

trained = everything


def logp(logits, token):
    return torch.log(torch.softmax(logits, 0))[token]


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    internal = x.state.get("step", 0) <= hp["internal_steps"]
    current, old = x.inner(hp["layer"])
    losses = {}
    for row, t in x.tokens_of(rows):
        if internal:
            token = x.tokens[row, t]
            now, before = (logp(z[row, t] / x.temperature, token) for z in (current, old))
            r = torch.exp((now - before.detach()).clamp(-20, 20))
        else:
            r = ratio(x, row, t)
        losses[row, t] = clip_loss(r, a[row], 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
    return token_mean(x, rows, losses)
