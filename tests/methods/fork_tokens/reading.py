"""Fork tokens: DAPO's rewards, rows and token loss; tokens of largest CURRENT entropy, mean over those."""

import math

from tests.methods.dapo.reading import token_losses, trained  # noqa: F401


def loss(x, hp, rows):
    losses = token_losses(x, hp, rows)
    entropy = {key: float(x.entropy("logits", *key).detach()) for key in losses}
    ranked = sorted(entropy, key=lambda key: -entropy[key])
    n = len(ranked)
    if hp["rule"] == "count":
        k = max(1, math.ceil(n * hp["rho"] - 1e-4))
        tie = k < n and entropy[ranked[k - 1]] - entropy[ranked[k]] < 1e-12
        assert not tie, "equal entropies at the cut: which of them is kept is a matter of order"
        kept = ranked[:k]
    else:
        place = (n - 1) * hp["rho"]  # from the top
        above, below = entropy[ranked[math.floor(place)]], entropy[ranked[math.ceil(place)]]
        threshold = above + (below - above) * (place - math.floor(place))
        kept = [key for key in ranked if entropy[key] >= threshold - 1e-12]
    return sum(losses[key] for key in kept) / (len(kept) if hp["divisor"] == "kept" else n)
