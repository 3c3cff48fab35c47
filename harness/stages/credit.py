"""Credit without a critic: baselines, returns to go, whitening, and a KL to the reference in the reward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from harness.stages.aggregate import aggregate
from harness.stages.base import Out, Reward, StepContext
from harness.stages.batch import Batch
from harness.stages.defaults import group_mean_std
from harness.stages.regularise import coefficient_now, kl_estimate
from harness.stages.token_stats import LOGP

if TYPE_CHECKING:
    from torch import Tensor

#: Estimators that make sense in a reward, where only their value counts.
REWARD_KL_ESTIMATORS = ("k1", "abs", "k2", "k3")
#: What the KL in the reward is logged as: :func:`mean_kl`.
KL_METRIC = "kl_in_reward/kl"
WHITENINGS = ("none", "mean", "unbiased", "biased")


def group_size_of(group_B: Tensor) -> Tensor:
    """Number of rows in each row's group, ``[B]`` (float64)."""
    _, index_B, count = torch.unique(group_B, return_inverse=True, return_counts=True)
    return count.double()[index_B]


def leave_one_out(reward_B: Tensor, group_B: Tensor) -> Tensor:
    """R minus the mean of the group's other rows, ``[B]`` (arXiv 2402.14740); a group of one keeps R."""
    mean, _ = group_mean_std(reward_B, group_B)
    n = group_size_of(group_B)
    return (reward_B - mean) * (n / (n - 1).clamp(min=1)).to(reward_B.dtype)


def at_last_token(value_B: Tensor, mask_BT: Tensor) -> Tensor:
    """``value_B`` on each row's last response token, 0 elsewhere, ``[B,T]``."""
    position = torch.arange(mask_BT.shape[1]).expand(mask_BT.shape)
    last_B1 = torch.where(mask_BT.bool(), position, -1).amax(1, keepdim=True)
    return (position == last_B1) * value_B[:, None]


def returns_to_go(reward_BT: Tensor, mask_BT: Tensor, gamma: float = 1.0) -> Tensor:
    """G_t = R_t + gamma G_{t+1}, starting anew outside the mask, ``[B,T]``; on the CPU, as batches are."""
    # numpy: a response may have thousands of tokens, and one step of the recursion is a few numbers
    reward_TB, mask_TB = reward_BT.T.contiguous().numpy(), mask_BT.T.to(reward_BT.dtype).contiguous().numpy()
    out_TB = reward_TB.copy()
    for t in reversed(range(len(out_TB) - 1)):
        out_TB[t + 1] *= mask_TB[t + 1]
        out_TB[t] += gamma * out_TB[t + 1]
    out_TB[:1] *= mask_TB[:1]
    return torch.from_numpy(out_TB).T.contiguous()


def whitened(value_BT: Tensor, mask_BT: Tensor, how: str, eps: float = 1e-8) -> Tensor:
    """``value_BT`` with mean 0 and variance 1 over all tokens of the mask: a long row counts more.

    Args:
        how: ``unbiased`` divides by sqrt(var + eps) with N - 1 in the variance (verl), ``biased`` by
            sqrt(max(var, eps)) with N (OpenRLHF), ``mean`` only shifts (OpenRLHF's no_std_norm), ``none``.
    """
    if how not in WHITENINGS:
        raise ValueError(f"unknown whitening '{how}'; choose one of {', '.join(WHITENINGS)}")
    if how == "none":
        return value_BT
    inside = value_BT[mask_BT.bool()].double()
    if not len(inside):
        return value_BT
    centred = value_BT.double() - inside.mean()
    squares = ((inside - inside.mean()) ** 2).sum()
    if how == "unbiased":
        centred = centred * (squares / max(len(inside) - 1, 1) + eps).rsqrt()
    elif how == "biased":
        centred = centred * (squares / len(inside)).clamp(min=eps).rsqrt()
    return centred.to(value_BT.dtype)


def reference_kl(batch: Batch, estimator: str = "k1") -> Tensor:
    """The estimate of KL(old policy || reference) at each response token, ``[B,T]``; 0 on padding."""
    kl = kl_estimate(estimator, batch.old["logp"], batch.reference_logp())
    return torch.where(batch.mask_BT, kl, 0.0)


def less_kl(score_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, coef: float) -> Tensor:
    """Token rewards ``[B,T]``: the score on the last response token minus ``coef`` times each token's KL."""
    return at_last_token(score_B.to(kl_BT.dtype), mask_BT) - coef * kl_BT


def mean_kl(kl_BT: Tensor, mask_BT: Tensor) -> float:
    """Mean over responses of the response's token mean, as in verl, whose adaptive weight follows it."""
    return float(aggregate("seq-mean-token-mean", kl_BT, mask_BT))


@dataclass(frozen=True)
class KLReward(Reward):
    """Score on the last token minus ``coef`` times the KL of each token, under the old policy; no gradient.

    Summed over the row it is what a baseline or a group mean is taken of: the KL enters before them.
    """

    coef: float | Callable[[], float]
    estimator: str = "k1"
    right: float = 1.0
    wrong: float = 0.0

    old_stats = (LOGP,)
    needs_reference = True

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        kl = reference_kl(batch, self.estimator)
        score = self.wrong + (self.right - self.wrong) * batch.correct_B
        reward = less_kl(score, kl, batch.mask_BT, coefficient_now(self.coef))
        return Out(reward, {KL_METRIC: mean_kl(kl, batch.mask_BT)})
