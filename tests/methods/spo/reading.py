"""SPO: credit of segments or of a tree's edges, whitened over uncertain tokens, which alone train."""

import math

import torch

from tests.methods.support.reading import clip_loss


def probability(x, row, t):
    return math.exp(float(x.logp("old_logits", row, t).detach()))


def is_uncertain(x, hp, row, t):
    return probability(x, row, t) < hp["prob_threshold"]


# --- chain


def chain_credit(x, hp, row):
    """Token by token: what the segment that the token is in gains."""
    n = x.lengths[row]
    marks = [t for t in range(n) if float(x.token_tags["segment_begins"][row, t]) > 0]
    values = [float(x.token_tags["segment_value"][row, t]) for t in marks] + [float(x.correct[row])]
    out = []
    for t in range(n):
        own = [i for i, start in enumerate(marks) if start <= t]
        gain = values[own[-1] + 1] - values[own[-1]] if own else 0.0
        out.append(0.0 if probability(x, row, t) > hp["prob_threshold"] else gain)
    return out


# --- tree


def children_of(x, row):
    """Rows below a row."""
    return [i for i in x.rows if x.groups[i] == x.groups[row] and int(x.tags["parent"][i]) == number(x, row)]


def number(x, row):
    """A row's place in its group, as the tags of its children say it."""
    return [i for i in x.rows if x.groups[i] == x.groups[row]].index(row)


def value_of(x, row):
    below = children_of(x, row)
    return sum(value_of(x, i) for i in below) / len(below) if below else float(x.correct[row])


def edge_credit(x, hp, row):
    mates = [i for i in x.rows if x.groups[i] == x.groups[row]]
    siblings = [i for i in mates if int(x.tags["parent"][i]) == int(x.tags["parent"][row])]
    above = sum(value_of(x, i) for i in siblings) / len(siblings)
    gain = value_of(x, row) - above
    if hp["edges"] == "normalised":
        gain /= math.sqrt(sum((value_of(x, i) - above) ** 2 for i in siblings) / len(siblings)) + 1e-8
    return gain


def trained(x, hp):
    if x.variant == "chain":
        return list(x.rows)
    return [row for row in x.rows if abs(edge_credit(x, hp, row)) > 1e-9]


# --- both


def loss(x, hp, rows):
    credit, uncertain = {}, []
    for row in rows:
        own = chain_credit(x, hp, row) if x.variant == "chain" else [edge_credit(x, hp, row)] * x.lengths[row]
        for t in range(x.lengths[row]):
            credit[row, t] = own[t]
            if is_uncertain(x, hp, row, t):
                uncertain.append((row, t))
    over = [credit[place] for place in (uncertain or credit)]
    mean = sum(over) / len(over)
    variance = sum((a - mean) ** 2 for a in over) / (len(over) - 1)
    policy, kl = torch.zeros(()), torch.zeros(())
    for row, t in uncertain:
        logp, old = x.logp("logits", row, t), x.logp("old_logits", row, t).detach()
        a = (credit[row, t] - mean) / math.sqrt(variance + 1e-8)
        r = torch.exp((logp - old).clamp(-10, 10))
        policy = policy + clip_loss(r, a, 1 - hp["eps"], 1 + hp["eps"])
        d = x.logp("ref_logits", row, t).detach() - logp
        kl = kl + torch.exp(d) - 1 - d
    return policy / len(uncertain) + hp["kl_coef"] * kl / len(rows)
