"""Data filters: +-1, a soft penalty for length or a mask; mixed or middling groups; GRPO; row mean."""

from tests.methods.support.reading import clip_loss, group_advantage, ratio, row_mean, verdict


def rewards(x, hp):
    reward = verdict(x, hp["reward_right"], hp["reward_wrong"])
    if hp["overlong"] == "penalty":
        cache = max(round(hp["overlong_fraction"] * x.max_response_tokens), 1)
        for row in x.rows:
            over = x.lengths[row] - (x.max_response_tokens - cache)
            reward[row] -= max(over, 0) / cache * hp["overlong_factor"]
    return reward


def trained(x, hp):
    metric = rewards(x, hp) if hp["metric"] == "seq_reward" else [float(c) for c in x.correct]
    kept = []
    for row in x.rows:
        own = [metric[i] for i in x.rows if x.groups[i] == x.groups[row]]
        if hp["keep"] == "varied" and max(own) == min(own):
            continue
        if hp["keep"] == "band" and not hp["low"] < sum(own) / len(own) < hp["high"]:
            continue
        if hp["overlong"] == "mask" and x.truncated[row]:
            continue
        kept.append(row)
    return kept


def loss(x, hp, rows):
    a = group_advantage(x, rewards(x, hp))
    low, high, cap = 1 - hp["eps_low"], 1 + hp["eps_high"], hp["dual_clip"]
    losses = {(row, t): clip_loss(ratio(x, row, t), a[row], low, high, cap) for row, t in x.tokens_of(rows)}
    return row_mean(x, rows, losses)
