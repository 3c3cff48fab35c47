"""IGPO: gains of segments and the outcome; returns less the mean at a position, or z-scores summed on."""

import math

import torch

from tests.methods.support.reading import clip_loss, everything, ratio, row_mean, token_mean

trained = everything


def turns_of(x, hp, row):
    """(tokens, reward) of each segment: its gain, and the outcome for the last one."""
    outcome = float(x.correct[row])
    if not x.correct[row] and x.answers[row] is None:
        outcome = hp["unparsed"]
    numbers = x.token_tags["segment"][row].tolist() if "segment" in x.token_tags else [0] * 1000
    parts = {}
    for t in range(x.lengths[row]):
        parts.setdefault(numbers[t], []).append(t)
    rewards = []
    for tokens in parts.values():
        rewards.append(float(x.token_tags["gain"][row, tokens[-1]]) if "gain" in x.token_tags else 0.0)
    rewards[-1] += outcome
    return list(zip(parts.values(), rewards, strict=True))


def released(x, hp):
    returns = {}
    for row in x.rows:
        total = 0.0
        for tokens, reward in reversed(turns_of(x, hp, row)):
            total += reward
            for t in tokens:
                returns[row, t] = total
    out = {}
    for row, t in x.tokens_of(x.rows):
        mates = [i for i in x.rows if x.groups[i] == x.groups[row]]
        out[row, t] = returns[row, t] - sum(returns.get((i, t), 0.0) for i in mates) / len(mates)
    return out


def z(values, pool):
    mean = sum(pool) / len(pool) if pool else 0.0
    std = math.sqrt(sum((v - mean) ** 2 for v in pool) / len(pool)) if pool else 0.0
    return [(v - mean) / (std + 1e-6) for v in values]


def paper(x, hp):
    out = {}
    for group in set(x.groups):
        own = {row: turns_of(x, hp, row) for row in x.rows if x.groups[row] == group}
        rewards = {row: [reward for _, reward in turns] for row, turns in own.items()}
        inner = [r for values in rewards.values() for r in values[:-1]]
        last = [values[-1] for values in rewards.values()]
        for row, turns in own.items():
            if hp["norm"] == "joint":
                scores = z(rewards[row], inner + last)
            else:
                scores = z(rewards[row][:-1], inner) + z(rewards[row][-1:], last)
            for k, (tokens, _) in enumerate(turns):
                value = sum(hp["gamma"] ** (j - k) * scores[j] for j in range(k, len(scores)))
                out |= {(row, t): value for t in tokens}
    return out


def loss(x, hp, rows):
    a = released(x, hp) if x.variant == "released" else paper(x, hp)
    low, high, cap = 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"]
    losses = {}
    for row, t in x.tokens_of(rows):
        d = x.logp("logits", row, t) - x.logp("ref_logits", row, t)
        k3 = (torch.exp(-d) - 1 + d).clamp(-10, 10)
        losses[row, t] = clip_loss(ratio(x, row, t), a[row, t], low, high, cap) + hp["kl_coef"] * k3
        losses[row, t] = losses[row, t] - hp["entropy_coef"] * x.entropy("logits", row, t)
    return (token_mean if hp["aggregation"] == "token-mean" else row_mean)(x, rows, losses)
