r"""QAE: quantile advantage estimation (arXiv 2509.22611v2, eq. 3 and 4).

    b = inf{x : F(x) >= K},   F the empirical distribution of the group's rewards
    A_i = (R_i - b) / (std + eps)

For verdicts with pass rate p: b = 0 where p <= 1 - K (hard: only right rows learn), else 1 (easy: only wrong
ones). Everything else is the recipe it is put into; here clip-higher, averaged over tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrobench import (
    Advantage,
    Batch,
    ClippedMethod,
    Out,
    Stages,
    StepContext,
    group_mean_std,
    grpo_stages,
    hp,
    per_group,
    register,
    share_of,
)

if TYPE_CHECKING:
    from torch import Tensor


def quantile_baseline(reward_B: Tensor, group_B: Tensor, k: float) -> Tensor:
    """b, ``[B]``: the smallest reward that at least the share ``k`` of the group does not exceed."""

    def formula(reward_n: Tensor) -> Tensor:
        # counts, because 0.2 <= 1 - 0.8 does not hold in floats
        return reward_n.sort().values[share_of(len(reward_n), k, up=True) - 1].expand(len(reward_n))

    return per_group(formula, group_B, reward_B)


def quantile_advantage(
    reward_B: Tensor, group_B: Tensor, k: float, *, eps: float = 1e-8, ddof: int = 0
) -> Tensor:
    """(R - b) / (std + eps), ``[B]``; 0 in a group of equal rewards."""
    _, std = group_mean_std(reward_B, group_B, ddof=ddof)
    return (reward_B - quantile_baseline(reward_B, group_B, k)) / (std + eps)


@dataclass(frozen=True)
class QuantileAdvantage(Advantage):
    """The reward less the group's K-quantile, over its standard deviation, on every token."""

    k: float
    eps: float
    ddof: int

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        reward, group = batch.rewards(), batch.group_B
        advantage = quantile_advantage(reward, group, self.k, eps=self.eps, ddof=self.ddof)
        easy = quantile_baseline(reward, group, self.k) > 0
        return Out(
            advantage,
            {
                "qae/zero": float((advantage == 0).float().mean()),
                "qae/easy": float(easy.float().mean()),
            },
        )


@register("qae")
@dataclass(frozen=True)
class QAE(ClippedMethod):
    """Clip-higher with a quantile of the group as its baseline."""

    eps_high: float = hp(0.28, "ratio clip above 1", ge=0)
    k: float = hp(0.4, "K: a prompt with a pass rate above 1 - K is easy", gt=0, lt=1)
    std_eps: float = hp(1e-8, "added to the standard deviation", ge=0)
    ddof: int = hp(0, "1 for the sample standard deviation", ge=0, le=1)

    def stages(self) -> Stages:
        return grpo_stages().with_(
            advantage=QuantileAdvantage(self.k, self.std_eps, self.ddof), loss=self.clipped_loss()
        )
