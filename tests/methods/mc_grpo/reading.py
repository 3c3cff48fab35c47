"""MC-GRPO: around the median, over the median absolute deviation, without the median row; clip 0.2, k3."""

import torch

from tests.methods.support.reading import clip_loss, ratio, verdict


def credits(x, hp):
    """Advantage of every rollout, and the row of each group's median."""
    reward, a, medians = verdict(x, hp["reward_right"], hp["reward_wrong"]), {}, {}
    for g in set(x.groups):
        rows = [row for row in x.rows if x.groups[row] == g]
        # which of equal rewards is the median is torch's choice
        middle, index = torch.tensor([reward[row] for row in rows], dtype=torch.float64).median(dim=0)
        medians[g] = rows[int(index)]
        distances = sorted(abs(reward[row] - float(middle)) for row in rows)
        mad = distances[(len(rows) - 1) // 2]
        for row in rows:
            a[row] = (reward[row] - float(middle)) / (mad + hp["mad_eps"])
        active = [row for row in rows if abs(a[row]) > 1e-6]
        if hp["rescale_nonzero"]:
            for row in active:
                a[row] *= len(rows) / len(active)
    return a, medians


def trained(x, hp):
    return [row for row in x.rows if row not in credits(x, hp)[1].values()]


def loss(x, hp, rows):
    a, _ = credits(x, hp)
    sums = []
    for row in rows:
        total = torch.zeros(())
        for t in range(x.lengths[row]):
            d = x.logp("logits", row, t) - x.logp("ref_logits", row, t)
            k3 = torch.exp(-d) - 1 + d
            part = clip_loss(ratio(x, row, t), a[row], 1 - hp["eps_low"], 1 + hp["eps_high"])
            total = total + part + hp["kl_coef"] * k3
        sums.append(total)
    if hp["aggregation"] == "token-mean":  # of all that were sampled for these prompts
        groups = {x.groups[row] for row in rows}
        return sum(sums) / sum(x.lengths[row] for row in x.rows if x.groups[row] in groups)
    if hp["aggregation"] == "seq-mean-token-mean":
        return sum(s / x.lengths[row] for s, row in zip(sums, rows, strict=True)) / len(rows)
    return sum(sums) / (len(rows) * x.max_response_tokens)
