"""D3S: rows of largest variance, in them the tokens of largest |A| H (OLD entropy); clip 0.2, token mean."""

from itertools import pairwise
from statistics import pvariance

import torch

from tests.methods.support.reading import clip_loss, group_advantage, ratio, verdict


def rounded(number):
    return max(1, int(number + 0.5 + 1e-9))


def widest(a, rows, k):
    """Every way to take k from the two ends; of equal variances the one with the fewest high ones."""
    rows = sorted(rows, key=lambda row: a[row])
    k, best = min(k, len(rows)), None
    for high in range(k + 1):
        chosen = rows[: k - high] + rows[len(rows) - high :]
        spread = pvariance([a[row] for row in chosen])
        if best is None or spread > best[0] + 1e-9:
            best = (spread, chosen)
    return best[1]


def kept_tokens(x, hp):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    members = [[row for row in x.rows if x.groups[row] == g] for g in sorted(set(x.groups))]
    members = [own for own in members if any(x.correct[i] != x.correct[j] for i, j in pairwise(own))]
    n, k = (
        hp[f"{what}_start"] + x.started * (hp[f"{what}_end"] - hp[f"{what}_start"])
        for what in ("rows", "tokens")
    )
    if hp["scope"] == "batch":
        rows = widest(a, [row for own in members for row in own], rounded(n * len(x.lengths)))
    else:
        rows = [row for own in members for row in widest(a, own, rounded(n * len(own)))]
    score = {(row, t): abs(a[row]) * float(x.entropy("old_logits", row, t)) for row, t in x.tokens_of(rows)}
    return set(sorted(score, key=score.get, reverse=True)[: rounded(k * len(score))]), a


def trained(x, hp):
    return sorted({row for row, _ in kept_tokens(x, hp)[0]})


def loss(x, hp, rows):
    kept, a = kept_tokens(x, hp)
    own = [(row, t) for row, t in kept if row in rows]
    total = torch.zeros(())
    for row, t in own:
        total = total + clip_loss(ratio(x, row, t), a[row], 1 - hp["eps_low"], 1 + hp["eps_high"])
    return total / len(own)
