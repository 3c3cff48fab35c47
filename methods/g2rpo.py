r"""G2RPO: Gaussian GRPO (OpenVLThinkerV2, arXiv 2604.08539).

The rewards of a group become normal quantiles by their rank, and so do the results of the whole batch:

    OT(x): of n sorted values the i-th becomes Phi^-1((i - 1/2) / n); equal values get the mean of theirs
    y = OT(rewards of a group);   A = OT(y of all groups)

No standard deviation, no epsilon. With h the token mean of -logp of the sampled tokens, the loss adds

    coef * (h - high if h > high, low - h if h < low, else 0)

"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    LOGP,
    Advantage,
    Batch,
    ClippedMethod,
    GroupFilter,
    Out,
    Regulariser,
    RunConfig,
    Stages,
    Stats,
    StepContext,
    UserError,
    aggregate,
    group_mean_std,
    grpo_stages,
    hp,
    per_group,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


def normal_quantiles(n: int) -> Tensor:
    """Phi^-1((i - 1/2) / n), i = 1 … n, ``[n]``: computed in float32 as in the release, given in float64."""
    share = (torch.arange(1, n + 1, dtype=torch.float32) - 0.5) / n
    return (math.sqrt(2) * torch.erfinv(2 * share - 1)).double()


def to_normal(value_n: Tensor) -> Tensor:
    """OT, ``[n]`` float64; a single value becomes 0."""
    n = len(value_n)
    if n < 2:
        return torch.zeros(n, dtype=torch.float64)
    sorted_n, order = value_n.sort(stable=True)
    _, tie, count = torch.unique_consecutive(sorted_n, return_inverse=True, return_counts=True)
    total = torch.zeros(len(count), dtype=torch.float64).index_add(0, tie, normal_quantiles(n))
    return torch.zeros(n, dtype=torch.float64).scatter(0, order, (total / count)[tie])


def gaussian_advantage(reward_B: Tensor, group_B: Tensor, decimals: int | None = 6) -> Tensor:
    """A, ``[B]``; ``decimals`` of the groups' quantiles count when they are ranked, None: all of them."""
    y_B = per_group(to_normal, group_B, reward_B.double())
    return to_normal(y_B if decimals is None else y_B.round(decimals=decimals)).to(reward_B.dtype)


def side_of(h: float, low: float, high: float) -> tuple[float, float]:
    """(factor, offset) of the distance of ``h`` to the band, ``factor * h + offset``; 0 and 0 inside."""
    if h > high:
        return 1.0, -high
    return (-1.0, low) if h < low else (0.0, 0.0)


@dataclass(frozen=True)
class GaussianAdvantage(Advantage):
    """Rewards as normal quantiles, in the group and then in the batch."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        return Out(gaussian_advantage(batch.rewards(), batch.group_B))


@dataclass(frozen=True)
class AccuracyFilter(GroupFilter):
    """Groups whose share of right responses lies strictly between the bounds."""

    low: float
    high: float

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        accuracy, _ = group_mean_std(batch.correct_B, batch.group_B)
        keep = (accuracy > self.low) & (accuracy < self.high)
        return Out(keep, {"g2rpo/kept": float(keep.float().mean())})


@dataclass(frozen=True)
class SampledBand(Regulariser):
    """The distance of the update's mean -logp of sampled tokens to a band, nats."""

    coef: float
    low: float
    high: float
    aggregation: str = "token-mean"

    current_stats = (LOGP,)
    minibatch_scope = True

    def coefficient(self) -> float:
        return self.coef

    def prepare(self, batch: Batch, current: Stats) -> Out[dict[str, Tensor]]:
        h = float(aggregate("token-mean", -current["logp"], batch.train_mask_BT))
        side = torch.tensor(side_of(h, self.low, self.high), dtype=current["logp"].dtype)
        metrics: Mapping[str, float] = {"g2rpo/nll": h, "g2rpo/side": float(side[0])}
        return Out({"factor": side[0], "offset": side[1]}, metrics)

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        return prepared["offset"] - prepared["factor"] * current["logp"]


@register("g2rpo")
@dataclass(frozen=True)
class G2RPO(ClippedMethod):
    """GRPO with normal quantiles of ranks as advantages, and a band for the sampled tokens' -logp."""

    eps_high: float = hp(0.3, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)
    entropy_coef: float = hp(0.02, "weight of the distance to the band", ge=0)
    entropy_low: float = hp(0.2, "lower edge of the band, nats of -logp", ge=0)
    entropy_high: float = hp(0.6, "upper edge of the band, nats of -logp", ge=0)
    accuracy_low: float = hp(0.01, "groups with no larger share of right responses are dropped", ge=0, lt=1)
    accuracy_high: float = hp(0.99, "groups with no smaller share of right responses are dropped", gt=0)

    def validate(self, run: RunConfig) -> None:
        if self.entropy_low > self.entropy_high:
            raise UserError("the band is upside down: keep method.entropy_low <= method.entropy_high")
        if self.accuracy_low >= self.accuracy_high:
            raise UserError(
                "no group lies between the bounds: keep method.accuracy_low < method.accuracy_high"
            )

    def stages(self) -> Stages:
        band = SampledBand(self.entropy_coef, self.entropy_low, self.entropy_high)
        return grpo_stages().with_(
            group_filter=AccuracyFilter(self.accuracy_low, self.accuracy_high),
            advantage=GaussianAdvantage(),
            loss=self.clipped_loss(),
            regularisers=(band,) if self.entropy_coef else (),
        )
