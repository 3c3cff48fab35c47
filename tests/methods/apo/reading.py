"""APO: overlong wrong answers cost more, and the KL weighs less on right answers of hard prompts."""

import math

import torch

from tests.methods.support.reading import clip_loss, everything, ratio, token_mean, verdict

trained = everything


def loss(x, hp, rows):
    reward, losses, kls = verdict(x, 1.0, 0.0), {}, []
    for row in rows:
        mates = [i for i in x.rows if x.groups[i] == x.groups[row]]
        mean = sum(reward[i] for i in mates) / len(mates)
        std = math.sqrt(sum((reward[i] - mean) ** 2 for i in mates) / (len(mates) - 1))
        a = (reward[row] - mean) / (std + 1e-9)
        right = [x.lengths[i] for i in mates if x.correct[i]]
        over = x.lengths[row] - sum(right) / len(right) if right and not x.correct[row] else 0.0
        if over > 0:
            a *= 1 + (1 - hp["stcr_base"] ** -over)
        wrong = 1 - mean
        u = 1 - math.exp(-math.e * (1 - wrong)) if a > 0 and 0 < wrong < 1 else 1.0
        kl = []
        for t in range(x.lengths[row]):
            losses[row, t] = clip_loss(
                ratio(x, row, t), a, 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"]
            )
            d = x.logp("logits", row, t) - x.logp("ref_logits", row, t).detach()
            kl.append(torch.exp(-d) + d - 1)
        kls.append(u * sum(kl[1:], kl[0]) / len(kl))
    return token_mean(x, rows, losses) + hp["kl_coef"] * sum(kls[1:], kls[0]) / len(rows)
