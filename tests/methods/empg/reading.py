"""EMPG: steps by the texts of the tokens; OLD entropies of all steps of all rollouts; one mean over steps."""

import math
import re

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, row_mean, verdict

trained = everything


def steps(x, hp, row):
    """Lists of neighbouring tokens; the one in which a match ends is its list's last."""
    found, text, cuts = [[]], "", set()
    whole = "".join(x.pieces[int(x.tokens[row, t])] for t in range(x.lengths[row]))
    if hp["step_end"]:
        cuts = {match.end() for match in re.finditer(hp["step_end"], whole)}
    for t in range(x.lengths[row]):
        piece = x.pieces[int(x.tokens[row, t])]
        found[-1].append(t)
        if any(len(text) < cut <= len(text) + len(piece) for cut in cuts):
            found.append([])
        text += piece
    return [tokens for tokens in found if tokens]


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    every = {}
    for row in x.rows:
        for s, tokens in enumerate(steps(x, hp, row)):
            every[row, s] = sum(float(x.entropy("old_logits", row, t)) for t in tokens) / len(tokens)
    low, high = min(every.values()), max(every.values())
    normed = {key: (h - low) / (high - low + 1e-8) for key, h in every.items()}
    scale = sum(math.exp(-hp["k"] * n) for n in normed.values()) / len(normed) + 1e-8
    raw = {}
    for row, s in every:
        bonus = math.exp(-hp["k_next"] * normed[row, s + 1]) if (row, s + 1) in normed else 0.0
        raw[row, s] = a[row] * math.exp(-hp["k"] * normed[row, s]) / scale + hp["zeta"] * bonus
    shift = sum(raw.values()) / len(raw)
    losses = {}
    for row in rows:
        for s, tokens in enumerate(steps(x, hp, row)):
            for t in tokens:
                credit = raw[row, s] - shift
                low_high = 1 - hp["eps_low"], 1 + hp["eps_high"]
                losses[row, t] = clip_loss(ratio(x, row, t), credit, *low_high, hp["dual_clip"])
    return row_mean(x, rows, losses)
