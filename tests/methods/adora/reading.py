"""ADORA: GRPO's advantage, times a factor where the longest right answer is no longer than the wrong ones."""

import math

import torch

from tests.methods.support.reading import clip_loss, everything, ratio, token_mean, verdict

trained = everything


def weight(x, hp, row):
    mates = [i for i in x.rows if x.groups[i] == x.groups[row]]
    right = [x.lengths[i] for i in mates if x.correct[i]]
    wrong = [x.lengths[i] for i in mates if not x.correct[i] and x.lengths[i] < (hp["max_length"] or 4000)]
    if hp["variant"] == "llm":
        kept = bool(right) and (not wrong or max(right) > sum(wrong) / len(wrong))
    else:
        kept = not right or (bool(wrong) and max(right) > sum(wrong) / len(wrong))
    return 1.0 if kept else hp["weight"]


def loss(x, hp, rows):
    reward, losses = verdict(x, 1.0, 0.0), {}
    for row, t in x.tokens_of(rows):
        mates = [reward[i] for i in x.rows if x.groups[i] == x.groups[row]]
        mean = sum(mates) / len(mates)
        std = math.sqrt(sum((r - mean) ** 2 for r in mates) / (len(mates) - 1))
        a = (reward[row] - mean) / (std + (1e-6 if hp["variant"] == "llm" else 1e-9)) * weight(x, hp, row)
        losses[row, t] = clip_loss(
            ratio(x, row, t), a, 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"]
        )
        if hp["kl_coef"]:
            d = x.logp("logits", row, t) - x.logp("ref_logits", row, t).detach()
            losses[row, t] = losses[row, t] + hp["kl_coef"] * (torch.exp(-d) + d - 1).clamp(-10, 10)
    return token_mean(x, rows, losses)
