"""TTRL: the first half of a prompt's rollouts learn to agree with the majority of all of them."""

import math

from tests.methods.support.reading import clip_loss, ratio, row_mean, token_mean


def mates_of(x, row):
    return [i for i in x.rows if x.groups[i] == x.groups[row]]


def kept(x, hp, row):
    mates = mates_of(x, row)
    return mates[: max(1, int(len(mates) * hp["train_share"] + 1e-9))]


def trained(x, hp):
    return [row for row in x.rows if row in kept(x, hp, row)]


def written(text):
    """The pipeline writes an answer in a box at the end, or none; a tiny model never writes a box."""
    return text.rpartition("boxed{")[2].rstrip("}") if "boxed{" in text else None


def reward(x, hp, row):
    mates = mates_of(x, row)
    said = [written(t) for t in x.texts] if hp["answers"] == "written" else list(x.answers)
    voters = [i for i in mates if said[i] is not None or not hp["drop_empty_votes"]]
    if not voters:
        return 0.0
    counts = [sum(said[j] == said[i] for j in voters) for i in voters]
    label = voters[counts.index(max(counts))]
    alike = x.answers[row] is not None and x.answers[row] == x.answers[label]
    return float(said[row] == said[label] or alike)


def advantage(x, hp, row, reward=reward):
    rewards = [reward(x, hp, i) for i in kept(x, hp, row)]
    mean = sum(rewards) / len(rewards)
    std = math.sqrt(sum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1))
    return (reward(x, hp, row) - mean) / (std + 1e-6)


def k3(x, row, t):
    d = x.logp("logits", row, t) - x.logp("ref_logits", row, t).detach()
    return ((-d).clamp(-20, 20).exp() + d - 1).clamp(-10, 10)


def loss(x, hp, rows):
    losses = {}
    for row in rows:
        a = advantage(x, hp, row)
        for t in range(x.lengths[row]):
            policy = clip_loss(ratio(x, row, t), a, 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
            losses[row, t] = policy + hp["kl_coef"] * k3(x, row, t)
    return (token_mean if hp["aggregation"] == "token-mean" else row_mean)(x, rows, losses)
