"""HAPO: token-weighted advantage of the group; scores from the CURRENT entropies of the minibatch."""

import math

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, token_mean, verdict

trained = everything


def advantage(x):
    reward = verdict(x, 1.0, 0.0)
    plain, out = group_advantage(x, reward), []
    for row in x.rows:
        mates = [i for i in x.rows if x.groups[i] == x.groups[row]]
        every = [reward[i] for i in mates for _ in range(x.lengths[i])]
        mean = sum(every) / len(every)
        std = math.sqrt(sum((v - mean) ** 2 for v in every) / len(every))
        tested = [(v - mean) / (std + 1e-6) for v in every]
        if x.variant == "released" and any(x.lengths[i] < x.max_response_tokens for i in mates):
            tested.append(-mean / (std + 1e-6))
        large = max(abs(v) for v in tested) >= 5
        out.append(plain[row] if large else (reward[row] - mean) / (std + 1e-6))
    return out


def loss(x, hp, rows):
    a, tokens = advantage(x), x.tokens_of(rows)
    e = {k: math.log(max(float(x.entropy("logits", *k).detach()), 1e-8)) for k in tokens}
    pivot = sorted(e.values())[round(hp["rho"] * (len(e) - 1))]
    spread = math.sqrt(sum((v - pivot) ** 2 for v in e.values()) / len(e))
    u = {k: (v - pivot) / spread for k, v in e.items()}
    top, bottom = max(u.values()), min(u.values())
    losses = {}
    for k in tokens:
        h = u[k] / top if u[k] > 0 else (u[k] / bottom if x.variant == "released" else -u[k] / bottom)
        low = hp["eps_low"] * (1 - hp["alpha"] * h) if h <= 0 else hp["eps_low"]
        high = hp["eps_high"] * (1 + hp["alpha"] * h) if h > 0 else hp["eps_high"]
        r = ratio(x, *k)
        neutral = 1 - low / 2 < float(r.detach()) < 1 + high / 2
        credit = a[k[0]] * (1 + hp["beta"] * h if neutral == (h <= 0) else 1)
        losses[k] = clip_loss(r, credit, 1 - low, 1 + high, hp["dual_clip"])
    return token_mean(x, rows, losses)
