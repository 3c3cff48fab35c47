"""SEED-GRPO: Dr. GRPO whose advantages shrink with the semantic entropy of the prompt's answers."""

import math

from tests.methods.support.reading import clip_loss, everything

trained = everything


def mates_of(x, row):
    return [i for i in x.rows if x.groups[i] == x.groups[row]]


def likelihood(x, hp, row):
    if hp["estimator"] == "share":
        return 1.0
    logps = [float(x.logp("old_logits", row, t)) for t in range(x.lengths[row])]
    return math.exp(sum(logps) / len(logps) if hp["length_normalised"] else sum(logps))


def damping(x, hp, row):
    mates, mass = mates_of(x, row), {}
    for i in mates:
        meaning = ("none", i) if x.answers[i] is None else x.answers[i]
        mass[meaning] = mass.get(meaning, 0.0) + likelihood(x, hp, i)
    shares = [m / sum(mass.values()) for m in mass.values()]
    if hp["form"] == "code":
        entropy = -sum(p * math.log(p) for p in shares)
        return 1 / (1 + hp["alpha"] / math.log(len(mates)) * entropy)
    damped = hp["alpha"] * -sum(math.log(p) for p in shares) / len(shares) / math.log(len(mates))
    return 1 - damped if hp["form"] == "linear" else math.exp(-damped)


def loss(x, hp, rows):
    total = 0.0
    for row in rows:
        right = [float(x.correct[i]) for i in mates_of(x, row)]
        credit = (float(x.correct[row]) - sum(right) / len(right)) * damping(x, hp, row)
        for t in range(x.lengths[row]):
            r = (x.logp("logits", row, t) - x.logp("old_logits", row, t).detach()).exp()
            total = total + clip_loss(r, credit, 1 - hp["eps_low"], 1 + hp["eps_high"])
    return total / x.max_response_tokens / len(rows)
