"""MENTOR: on-policy rows as GRPO has them, mixed ones their surplus over the own mean times alpha."""

import math

from tests.methods.support.reading import clip_loss, everything, ratio, token_mean

trained = everything


def rewards(x, hp):
    out = []
    for row in x.rows:
        good_form = x.answers[row] is not None
        if hp["form"] == "think":
            text = x.texts[row]
            parts = [text.find("<think>"), text.find("</think>"), text.find("\\boxed{")]
            good_form = -1 not in parts and parts == sorted(parts)
        out.append((1 - hp["format_share"]) * x.correct[row] + hp["format_share"] * good_form)
    return out


def credits(x, hp):
    reward, a = rewards(x, hp), {}
    expert = x.tags.get("is_expert", [0.0] * len(x.lengths))
    if x.step < hp["decay_steps"]:
        alpha = hp["expert_weight"] * 0.5 * (1 + math.cos(math.pi * x.step / hp["decay_steps"]))
    else:
        alpha = 0.0
    for g in set(x.groups):
        rows = [row for row in x.rows if x.groups[row] == g]
        own = [reward[row] for row in rows if not expert[row]]
        mean = sum(own) / len(own)
        sd = math.sqrt(sum((r - mean) ** 2 for r in own) / (len(own) - 1))
        surplus = {row: max(reward[row] - mean, 0.0) for row in rows if expert[row]}
        shrunk = min(1.0, hp["expert_cap"] / (sum(surplus.values()) or 1.0))
        for row in rows:
            a[row] = alpha * shrunk * surplus[row] if expert[row] else (reward[row] - mean) / (sd + 1e-6)
    return a


def loss(x, hp, rows):
    a = credits(x, hp)
    losses = {
        (row, t): clip_loss(ratio(x, row, t), a[row], 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
        for row, t in x.tokens_of(rows)
    }
    return token_mean(x, rows, losses)
