"""Prompt augmentation: accuracy plus the marks that occur once; clip 0.2 / 0.28; token mean."""

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, row_mean, token_mean

trained = everything

#: What is counted in the formal templates, by their number behind the paper's thirteen.
COUNTED = {13: [], 14: [], 15: ["1"], 16: ["1", "2"]}


def reward(x):
    out = []
    for row in x.rows:
        marks = COUNTED[int(x.tags["template"][row])] if "template" in x.tags else []
        once = [mark for mark in marks if len(x.texts[row].split(mark)) == 2]
        out.append(float(x.correct[row]) + (len(once) / len(marks) if marks else 1.0))
    return out


def loss(x, hp, rows):
    a = group_advantage(x, reward(x))
    low, high, cap = 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"]
    losses = {(row, t): clip_loss(ratio(x, row, t), a[row], low, high, cap) for row, t in x.tokens_of(rows)}
    return (token_mean if hp["aggregation"] == "token-mean" else row_mean)(x, rows, losses)
