"""How far a policy moved, by the divergence of two-point distributions (this token, the rest), and the ratio
bands that keep it within a radius."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

#: Divergences that have a band.
BANDS = ("kl", "tv", "chi2")
#: Of a bracket of any width; Newton's steps square the error at the end and halve it at worst before.
_MOST_STEPS = 100


def probability_change(logp_BT: Tensor, old_logp_BT: Tensor) -> Tensor:
    """p - mu, ``[B,T]``: its absolute value is the total variation of (token, rest) under both policies."""
    return logp_BT.exp() - old_logp_BT.exp()


def binary_kl(logp_BT: Tensor, old_logp_BT: Tensor, eps: float = 1e-8) -> Tensor:
    """KL(old || current) of (token, rest), nats, ``[B,T]``; ``eps`` is added inside the log of the rest."""
    old = old_logp_BT.exp()
    rest, old_rest = (-torch.expm1(logp.clamp(max=0.0)) for logp in (logp_BT, old_logp_BT))
    return old * (old_logp_BT - logp_BT) + old_rest * ((old_rest + eps) / (rest + eps)).log()


def fall_within_kl(p_N: Tensor, rest_N: Tensor, radius: float) -> Tensor:
    """x >= 0 such that KL((p, 1 - p) || (q, 1 - q)) = ``radius`` nats at q = p exp(-x); float64, ``[N]``.

    Args:
        p_N, rest_N: p and 1 - p, both above 0; given apart so that neither loses digits.

    The divergence is convex and increasing in x, so Newton's method from the upper end of a bracket falls to
    the root and never below it. Each token stops by itself: no other token changes its result.
    """
    p, rest = p_N.double(), rest_N.double()
    odds, pinsker = p / rest, (radius / 2) ** 0.5 / p  # KL >= 2 (p - q)^2
    x = torch.minimum(
        (radius - rest * rest.log()) / p,
        torch.where(pinsker < 1, -torch.log1p(-pinsker.clamp(max=1 - 1e-12)), torch.inf),
    )
    moving = torch.ones_like(x, dtype=torch.bool)
    for _ in range(_MOST_STEPS):
        fallen = -torch.expm1(-x)
        excess = p * x - rest * torch.log1p(odds * fallen) - radius
        slope = p * fallen / (rest + p * fallen)
        lower = (x - excess / slope).clamp(min=0.0)
        moving = moving & (lower < x * (1 - 1e-15)) & (slope > 0)
        if not bool(moving.any()):
            break
        x = torch.where(moving, lower, x)
    return x


def ratio_band(kind: str, logp_BT: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Smallest and largest ratio that keep (token, rest) within ``radius`` of itself; float64, ``[B,T]``.

    Args:
        kind: of :data:`BANDS`: ``kl`` is KL(old || new), ``tv`` half the sum of absolute changes, ``chi2``
            the chi-squared divergence of new from old.
        logp_BT: log-probs under the policy before the update, below 0.

    The probability stays in [0, 1]: ratios lie in [0, 1 / p].
    """
    logp = logp_BT.double()
    p, rest = logp.exp(), -torch.expm1(logp)
    if kind == "kl":
        x = fall_within_kl(torch.stack([p, rest]), torch.stack([rest, p]), radius)
        return (-x[0]).exp(), 1 + rest / p * -torch.expm1(-x[1])
    if kind not in BANDS:
        raise ValueError(f"unknown divergence '{kind}'; choose one of {', '.join(BANDS)}")
    reach = radius / p if kind == "tv" else (radius * rest / p).sqrt()
    return (1 - reach).clamp(min=0.0), torch.minimum(1 + reach, 1 / p)
