"""EVOL-RL: majority answers get rewards in [0.5, 1], others in [-1, -0.5], the novel ones the upper end."""

import math
import re
from collections import Counter

from tests.methods.support.reading import clip_loss, ratio, token_mean
from tests.methods.ttrl import reading as ttrl

trained = ttrl.trained
mates_of = ttrl.mates_of


def counts(text):
    """Hashed 3-, 4- and 5-grams of characters."""
    found = Counter()
    for n in (3, 4, 5):
        for start in range(len(text) - n + 1):
            h = 0
            for c in text[start : start + n]:
                h = (h * 1099511628211 + ord(c) + 1) % 2**64
            h = (h ^ h // 2**29) * 0x9E3779B97F4A7C15 % 2**64
            found[h // 2**52] += 1
    return found


def similar(a, b):
    size = math.sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values()))
    return min(sum(n * b[k] for k, n in a.items()) / size, 1.0) if size else 0.0


def is_valid(x, hp, row):
    if hp["valid"] == "answered":
        return x.answers[row] is not None
    return re.search(r"boxed\{[^}]*\d[^}]*\}", x.texts[row].split("</think>")[-1]) is not None


def group_rewards(x, hp, mates):
    rewards = dict.fromkeys(mates, hp["invalid"])
    valid = [i for i in mates if is_valid(x, hp, i)]
    if len(valid) < 2:
        return rewards
    says = {i: ttrl.reward(x, hp, i) for i in valid}
    vector = {i: counts(x.texts[i].split("</think>")[-1]) for i in valid}
    new = {}
    for i in valid:
        near = {j: similar(vector[i], vector[j]) for j in valid if j != i}
        mean = [near[j] for j in near if says[j] == says[i]] or list(near.values())
        new[i] = 1 - hp["mix"] * sum(mean) / len(mean) - (1 - hp["mix"]) * max(near.values())
    for side, band in ((1.0, "positive"), (0.0, "negative")):
        own = {i: new[i] for i in valid if says[i] == side}
        low, high = hp[band + "_low"], hp[band + "_high"]
        for i in own:
            width = max(own.values()) - min(own.values())
            place = 0.5 if width < 1e-9 else (own[i] - min(own.values())) / width
            rewards[i] = high if len(own) == 1 else low + (high - low) * place
    return rewards


def loss(x, hp, rows):
    losses = {}
    for row in rows:
        rewards = group_rewards(x, hp, mates_of(x, row))
        a = ttrl.advantage(x, hp, row, lambda x, hp, i, rewards=rewards: rewards[i])
        for t in range(x.lengths[row]):
            policy = clip_loss(ratio(x, row, t), a, 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
            extra = hp["kl_coef"] * ttrl.k3(x, row, t) - hp["entropy_coef"] * x.entropy("logits", row, t)
            losses[row, t] = policy + extra
    return token_mean(x, rows, losses)
