"""AZR: rewards by role, returns to go whitened over the tokens of one role and kind, clip 0.2."""

import math

from tests.methods.support.reading import clip_loss, ratio, token_mean


def roles(x):
    return x.tags.get("role_task", [3.0] * len(x.lengths))


def trained(x, hp):
    return [row for row in x.rows if hp["train_propose"] or roles(x)[row] >= 3]


def rewards(x, hp):
    out = []
    good_form = x.tags.get("format", [1.0] * len(x.lengths))
    for row in x.rows:
        if not good_form[row]:
            out.append(-1.0)
        elif not x.correct[row]:
            out.append(-0.5)
        elif roles(x)[row] >= 3:
            out.append(1.0)
        else:
            acc = x.tags["accuracy"][row]
            out.append(
                {
                    "one_minus": 0.0 if acc == 0 else 1 - acc,
                    "inverse": 1 - acc,
                    "half": 0.0 if acc in (0, 1) else 1 - 2 * abs(acc - 0.5),
                }[hp["propose_reward"]]
            )
    return out


def credits(x, hp):
    reward, a = rewards(x, hp), {}
    for role in set(roles(x)):
        rows = [row for row in x.rows if roles(x)[row] == role]
        g = {(row, t): hp["gamma"] ** (x.lengths[row] - 1 - t) * reward[row] for row, t in x.tokens_of(rows)}
        mean = sum(g.values()) / len(g)
        variance = sum((value - mean) ** 2 for value in g.values()) / max(len(g) - 1, 1)
        a |= {at: (value - mean) / math.sqrt(variance + 1e-8) for at, value in g.items()}
    return a


def loss(x, hp, rows):
    a = credits(x, hp)
    losses = {
        (row, t): clip_loss(ratio(x, row, t), a[row, t], 1 - hp["eps_low"], 1 + hp["eps_high"])
        for row, t in x.tokens_of(rows)
    }
    return token_mean(x, rows, losses)
