"""DRPO: right responses weighted by length, soft-max over wrong ones, hinge on the KL to the OLD policy."""

import math

import torch

from tests.methods.support.reading import everything

trained = everything


def loss(x, hp, rows):
    score = {
        row: sum(x.logp("logits", row, t) for t in range(x.lengths[row])) / x.lengths[row] for row in rows
    }
    prompts = sorted({x.groups[row] for row in rows})
    objective = torch.zeros(())
    for g in prompts:
        own = [row for row in rows if x.groups[row] == g]
        right, wrong = ([row for row in own if x.correct[row] == kind] for kind in (True, False))
        if not right or not wrong:
            continue
        w = {row: math.exp((1 - x.lengths[row] / x.max_response_tokens) / hp["lambda_"]) for row in right}
        positive = sum(w[row] * score[row] for row in right) / sum(w.values())
        largest = max(float(score[row].detach()) for row in wrong) / hp["tau"]
        z = sum(torch.exp(score[row] / hp["tau"] - largest) for row in wrong)
        objective = objective + positive - hp["tau"] * z / z.detach()
    apart = []
    for row, t in x.tokens_of(rows):
        d = x.logp("logits", row, t) - x.logp("old_logits", row, t).detach()
        apart.append(-d if hp["kl_type"] == "kl" else torch.exp(d) - 1 - d)
    kl = sum(apart) / len(apart)
    return -objective / len(prompts) + torch.relu(hp["beta"] * (kl - hp["delta"])).detach() * kl
