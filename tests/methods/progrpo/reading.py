"""ProGRPO (reconstruction): confidences of prompt and answer under the OLD policy shift the advantage."""

import math

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, token_mean, verdict

trained = everything


def confidence(logps, fraction):
    lowest = sorted(logps)[: max(1, math.ceil(fraction * len(logps)))]
    return math.exp(sum(lowest) / len(lowest))


def prompt_logps(x, row):
    """Of every prompt token but the first, which nothing predicts."""
    places = [p for p in range(x.prompt_tokens.shape[1]) if x.prompt_mask[row, p]]
    out = []
    for p in places[1:]:
        z = x.prompt_logits[row, p - 1] / x.temperature
        out.append(float(z[x.prompt_tokens[row, p]] - z.logsumexp(0)))
    return out


def loss(x, hp, rows):
    a = group_advantage(x, verdict(x, 1.0, 0.0))
    losses = {}
    for row in rows:
        credit = a[row]
        if any(x.correct[i] for i in x.rows if x.groups[i] == x.groups[row]):
            answer = [float(x.logp("old_logits", row, t)) for t in range(x.lengths[row])]
            fraction = hp["low_fraction"]
            credit += hp["alpha"] * (
                confidence(prompt_logps(x, row), fraction) - confidence(answer, fraction)
            )
        for t in range(x.lengths[row]):
            losses[row, t] = clip_loss(ratio(x, row, t), credit, 1 - hp["eps_low"], 1 + hp["eps_high"])
    return token_mean(x, rows, losses)
