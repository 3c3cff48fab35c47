"""Tool-Light's update: GRPO over originals and branches, and DPO on one pair for each cut."""

import torch

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, token_mean, verdict

trained = everything


def mean_entropy(x, row):
    return sum(float(x.entropy("old_logits", row, t)) for t in range(x.lengths[row])) / x.lengths[row]


def pairs(x, rows):
    """(chosen, rejected) among the branches of a cut."""
    found = []
    branches = [row for row in rows if int(x.tags["level"][row]) > 0]

    def place(row):
        return x.groups[row], int(x.tags["parent"][row]), int(x.tags["cut"][row])

    for where in sorted({place(row) for row in branches}):
        here = [row for row in branches if place(row) == where]
        right = [row for row in here if x.correct[row]]
        wrong = [row for row in here if not x.correct[row]]
        if right and wrong:
            found.append(
                (
                    min(right, key=lambda row: mean_entropy(x, row)),
                    max(wrong, key=lambda row: mean_entropy(x, row)),
                )
            )
    return found


def over_reference(x, row):
    gains = [x.logp("logits", row, t) - x.logp("ref_logits", row, t).detach() for t in range(x.lengths[row])]
    return sum(gains[1:], gains[0])


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    low, high = 1 - hp["eps_low"], 1 + hp["eps_high"]
    losses = {
        (row, t): clip_loss(ratio(x, row, t), a[row], low, high, hp["dual_clip"])
        for row, t in x.tokens_of(rows)
    }
    total = token_mean(x, rows, losses)
    found = pairs(x, sorted(rows))
    for chosen, rejected in found if hp["dpo_coef"] else []:
        margin = hp["dpo_beta"] * (over_reference(x, chosen) - over_reference(x, rejected))
        total = total + hp["dpo_coef"] * torch.log(1 + torch.exp(-margin)) / len(found)
    return total
