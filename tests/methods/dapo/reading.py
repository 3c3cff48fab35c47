"""DAPO: +-1 with a soft penalty for length; only groups with mixed VERDICTS; clip 0.2 / 0.28; token mean."""

from tests.methods.support.reading import clip_loss, group_advantage, ratio, token_mean, verdict


def trained(x, hp):
    return [row for row in x.rows if len({x.correct[i] for i in x.rows if x.groups[i] == x.groups[row]}) == 2]


def token_losses(x, hp, rows):
    cache = round(hp["overlong_fraction"] * x.max_response_tokens)
    reward = verdict(x, hp["reward_right"], hp["reward_wrong"])
    for row in x.rows:
        over = x.lengths[row] - (x.max_response_tokens - cache)
        if over > 0:
            reward[row] -= over / cache * hp["overlong_factor"]
    a = group_advantage(x, reward)
    return {
        (row, t): clip_loss(ratio(x, row, t), a[row], 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"])
        for row, t in x.tokens_of(rows)
    }


def loss(x, hp, rows):
    return token_mean(x, rows, token_losses(x, hp, rows))
