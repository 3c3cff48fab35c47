"""SPEAR on its own rollouts: +-1, A = R - mean, widest groups, usable responses, Clip-Cov, sum / T."""

import statistics

from tests.methods.support.reading import clip_loss, ratio, verdict


def usable(x, row, hp):
    last = int(x.tokens[row, x.lengths[row] - 1])
    whole = x.lengths[row] == x.max_response_tokens and x.pieces[last] != ""  # end tokens say nothing
    return not (
        (hp["drop_overlong"] and whole)
        or (hp["drop_incomplete"] and x.answers[row] is None)
        or (hp["drop_unreadable"] and chr(0xFFFD) in x.texts[row])
    )


def trained(x, hp):
    reward, groups = verdict(x, 1.0, -1.0), sorted(set(x.groups))
    spread = {g: statistics.stdev([reward[i] for i in x.rows if x.groups[i] == g]) for g in groups}
    widest = sorted(groups, key=lambda g: -spread[g])[: int(hp["keep_groups"] * len(groups))]
    return [row for row in x.rows if x.groups[row] in widest]


def loss(x, hp, rows):
    reward, a = verdict(x, 1.0, -1.0), {}
    for row in rows:
        mates = [reward[i] for i in x.rows if x.groups[i] == x.groups[row]]
        a[row] = reward[row] - sum(mates) / len(mates)
        if hp["norm_by_std"]:
            a[row] = a[row] / (statistics.stdev(mates) + 1e-6)
    tokens = x.tokens_of([row for row in rows if usable(x, row, hp)])
    low, high = 1 - hp["eps_low"], 1 + hp["eps_high"]
    logp = {key: float(x.logp("logits", *key).detach()) for key in tokens}
    old = {key: float(x.logp("old_logits", *key)) for key in tokens}
    mean_a = sum(a[row] for row, _ in tokens) / (len(tokens) + 1e-8)
    mean_logp = sum(logp.values()) / (len(tokens) + 1e-8)
    band = []
    for key in tokens:
        r = 2.718281828459045 ** (logp[key] - old[key])
        clipped = (a[key[0]] > 0 and r > high) or (a[key[0]] < 0 and r < low)
        if not clipped and hp["w_low"] < (a[key[0]] - mean_a) * (logp[key] - mean_logp) < hp["w_high"]:
            band.append(key)
    band.sort(key=lambda key: float(x.draws[key]))
    dropped = band[: max(int(hp["share"] * len(tokens)), 1)]
    assert dropped or len(tokens) < 20, "nothing is in the band: the case tests nothing"
    kept = [key for key in tokens if key not in dropped]
    losses = [clip_loss(ratio(x, *key), a[key[0]], low, high) for key in kept]
    return sum(losses, 0.0 * x.logits.sum()) / x.max_response_tokens
