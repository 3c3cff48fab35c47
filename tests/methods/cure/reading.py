"""CURE's update: DAPO's, with originals and branches in one group. What a branch kept is its prompt."""

from tests.methods.support.reading import clip_loss, group_advantage, ratio, token_mean


def trained(x, hp):
    if not hp["dynamic_sampling"]:
        return list(x.rows)
    mixed = []
    for row in x.rows:
        verdicts = [x.correct[i] for i in x.rows if x.groups[i] == x.groups[row]]
        if any(verdicts) and not all(verdicts):
            mixed.append(row)
    return mixed


def shaped_reward(x, hp, row):
    reward = hp["reward_right"] if x.correct[row] else hp["reward_wrong"]
    cache = round(hp["overlong_fraction"] * x.max_response_tokens)
    beyond = x.lengths[row] - (x.max_response_tokens - cache)  # of the continuation alone
    return reward - max(beyond, 0) / cache * hp["overlong_factor"]


def loss(x, hp, rows):
    a = group_advantage(x, [shaped_reward(x, hp, row) for row in x.rows])
    low, high = 1 - hp["eps_low"], 1 + hp["eps_high"]
    losses = {
        (row, t): clip_loss(ratio(x, row, t), a[row], low, high, hp["dual_clip"])
        for row, t in x.tokens_of(rows)
    }
    return token_mean(x, rows, losses)
