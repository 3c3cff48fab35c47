"""REINFORCE and its kin: the credit of each entry, then PPO's token loss or TRL's over whole responses."""

import math

import torch

from tests.methods.support.reading import clip_loss, everything, ratio, row_mean, token_mean, verdict

trained = everything


def token_kl(x, hp, row, t):
    d = float(x.logp("old_logits", row, t)) - float(x.logp("ref_logits", row, t))
    return {"k1": d, "k2": d * d / 2, "k3": math.exp(-d) + d - 1}[hp["kl_estimator"]]


def total_kl(x, hp, row):
    return sum(token_kl(x, hp, row, t) for t in range(x.lengths[row])) if hp["kl_coef"] else 0.0


def others(x, score, row):
    mates = [score[i] for i in x.rows if x.groups[i] == x.groups[row] and i != row]
    return sum(mates) / len(mates)


def returns(x, hp, score, gamma):
    """{(row, t): discounted sum of the token rewards from t on}."""
    out = {}
    for row in x.rows:
        total = 0.0
        for t in reversed(range(x.lengths[row])):
            total = total * gamma - (hp["kl_coef"] * token_kl(x, hp, row, t) if hp["kl_coef"] else 0.0)
            total += score[row] if t == x.lengths[row] - 1 else 0.0
            out[row, t] = total
    return out


def whiten(x, credit, how):
    values = list(credit.values())
    mean = sum(values) / len(values)
    squares = sum((v - mean) ** 2 for v in values)
    scale = {
        "none": 1.0,
        "mean": 1.0,
        "unbiased": math.sqrt(squares / (len(values) - 1) + 1e-8),
        "biased": math.sqrt(max(squares / len(values), 1e-8)),
    }[how]
    return {k: (v - (0.0 if how == "none" else mean)) / scale for k, v in credit.items()}


def credit_of(x, hp):
    variant, score = x.variant, verdict(x, 1.0, 0.0)
    if variant == "plain":
        return whiten(x, returns(x, hp, score, hp["gamma"]), hp["whiten"])
    if variant == "plusplus":
        return whiten(x, returns(x, hp, score, hp["gamma"]), "unbiased")
    if variant == "rloo" and hp["kl_after"]:
        less = [score[row] - others(x, score, row) for row in x.rows]
        return returns(x, hp, less, 1.0)
    score = [score[row] - hp["kl_coef"] * total_kl(x, hp, row) for row in x.rows]
    if variant == "plusplus-baseline":
        size = {row: sum(g == x.groups[row] for g in x.groups) for row in x.rows}
        mean = {
            row: sum(score[i] for i in x.rows if x.groups[i] == x.groups[row]) / size[row] for row in x.rows
        }
        return whiten(x, {(row, t): score[row] - mean[row] for row, t in x.tokens_of(x.rows)}, "unbiased")
    less = [score[row] - others(x, score, row) for row in x.rows]
    if hp.get("normalise"):
        mean = sum(less) / len(less)
        std = math.sqrt(sum((a - mean) ** 2 for a in less) / (len(less) - 1))
        less = [(a - mean) / (std + 1e-4) for a in less]
    return {(row, t): less[row] for row, t in x.tokens_of(x.rows)}


def loss(x, hp, rows):
    a = credit_of(x, hp)
    low, high = 1 - hp["eps_low"], 1 + hp["eps_high"]
    if x.variant == "rloo-trl":
        losses = []
        for row in rows:
            change = [
                x.logp("logits", row, t) - x.logp("old_logits", row, t).detach()
                for t in range(x.lengths[row])
            ]
            losses.append(clip_loss(torch.exp(sum(change)), a[row, 0], low, high))
        return sum(losses[1:], losses[0]) / len(rows)
    tokens = x.tokens_of(rows)
    losses = {
        (row, t): clip_loss(ratio(x, row, t), a[row, t], low, high, hp["dual_clip"]) for row, t in tokens
    }
    return (row_mean if hp["aggregation"] == "seq-mean-token-mean" else token_mean)(x, rows, losses)
