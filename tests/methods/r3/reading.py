"""R^3 before any prompt has come twice: short right responses, ranked failures, GRPO's advantage and loss."""

from tests.methods.support.reading import clip_loss, everything, group_advantage, ratio, row_mean

trained = everything


def truncated(x, row):
    last = int(x.tokens[row, x.lengths[row] - 1])
    return x.lengths[row] == x.max_response_tokens and x.pieces[last] != ""  # end tokens say nothing


def rewards(x, hp):
    limit = hp["limit_factor"] * x.max_response_tokens
    reward = [
        1 + hp["bonus"] * max(0.0, 1 - x.lengths[row] / limit) if x.correct[row] else 0.0 for row in x.rows
    ]
    for g in set(x.groups) if hp["plain_passes"] == 0 else ():
        mates = [row for row in x.rows if x.groups[row] == g]
        if any(x.correct[row] for row in mates):
            continue
        ranked = [row for row in mates if hp["ranked_rows"] == "all" or truncated(x, row)]
        level = {}
        for row in ranked:
            h = sorted((float(x.entropy("old_logits", row, t)) for t in range(x.lengths[row])), reverse=True)
            k = max(1, int(hp["peak_share"] * len(h)))
            level[row] = (sum(h[:k]) / k, sum(h) / len(h))
        score = {
            i: sum(level[i][0] > level[j][0] and level[i][1] < level[j][1] for j in ranked) for i in ranked
        }
        for rank, row in enumerate(sorted(ranked, key=lambda i: -score[i])):
            reward[row] = hp["ranked_top"] * (1 - rank / (len(ranked) - 1)) if len(ranked) > 1 else 0.0
    return reward


def loss(x, hp, rows):
    a = group_advantage(x, rewards(x, hp))
    losses = {
        (row, t): clip_loss(ratio(x, row, t), a[row], 1 - hp["eps_low"], 1 + hp["eps_high"])
        for row, t in x.tokens_of(rows)
    }
    return row_mean(x, rows, losses)
