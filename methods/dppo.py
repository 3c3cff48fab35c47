r"""DPPO: divergence proximal policy optimisation (arXiv 2602.04879, sec. 4-5).

mu is the policy that sampled, p the current one, both of the sampled token; r = p / mu. A token is kept
(m = 1) unless it moves further away from mu than the two-point distribution (token, rest) may:

    tv    A > 0: p - mu <= delta_high,             else: p - mu >= -delta_low
    kl    A > 0: D <= delta_high or p <= mu,       else: D <= delta_low or p >= mu
          D = mu (log mu - log p) + (1 - mu) log((1 - mu + 1e-8) / (1 - p + 1e-8))

    dppo@tv, dppo@kl    l_t = -m_t sg[min(r_t, cap)] A logp_t
    dppo@prime          l_t = -m_t adv_tau A r_t + kl_tau (log r_t)^2    m as in tv, the square on all tokens

with A = R - mean of the group, not divided by a standard deviation. Dropped tokens stay in the denominator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    LOGP,
    AbsoluteBounds,
    Advantage,
    Batch,
    BehaviourRatio,
    BoundedWeight,
    FixedBounds,
    GroupAdvantage,
    Loss,
    Method,
    Out,
    PolicyLoss,
    Regulariser,
    RunConfig,
    Stages,
    Stats,
    TokenRatio,
    aggregate,
    binary_kl,
    grpo_stages,
    hp,
    log_ratio,
    probability_change,
    refuse_lone_rollouts,
    refuse_single_update,
    register,
    score_loss,
)

if TYPE_CHECKING:
    from torch import Tensor

SCALES = ("none", "group", "batch")
#: Mean over responses of token sum / token limit.
AGGREGATION = "all-seq-mean-token-sum-norm"


def kept_by_tv(
    logp_BT: Tensor, sampled_BT: Tensor, advantage_BT: Tensor, delta_low: float, delta_high: float
) -> Tensor:
    """m of ``tv``, bool ``[B,T]``."""
    change = probability_change(logp_BT, sampled_BT)
    return torch.where(advantage_BT > 0, change <= delta_high, change >= -delta_low)


def kept_by_kl(
    logp_BT: Tensor,
    sampled_BT: Tensor,
    advantage_BT: Tensor,
    delta_low: float,
    delta_high: float,
    eps: float = 1e-8,
) -> Tensor:
    """m of ``kl``, bool ``[B,T]``."""
    divergence, up = binary_kl(logp_BT, sampled_BT, eps), advantage_BT > 0
    back = torch.where(up, logp_BT <= sampled_BT, logp_BT >= sampled_BT)
    return back | (divergence <= torch.where(up, delta_high, delta_low))


@dataclass(frozen=True)
class TrustedWeight(BoundedWeight):
    """``scale`` m min(r, cap); ``divergence`` is tv or kl. The bounds hold the cap."""

    divergence: str = "tv"
    delta_low: float = 0.2
    delta_high: float = 0.2
    scale: float = 1.0
    eps: float = 1e-8

    def kept(self, batch: Batch, current: Stats) -> Tensor:
        logp = current["logp"]
        sampled, advantage = batch.rollout_logp_BT.to(logp.dtype), batch.advantages()
        if self.divergence == "tv":
            return kept_by_tv(logp, sampled, advantage, self.delta_low, self.delta_high)
        return kept_by_kl(logp, sampled, advantage, self.delta_low, self.delta_high, self.eps)

    def weight(self, batch: Batch, current: Stats) -> Out[Tensor]:
        """min(r, cap), and the share of tokens it caps."""
        return super().__call__(batch, current)

    def events(self, batch: Batch, ratio_BT: Tensor, weight_BT: Tensor) -> dict[str, Tensor]:
        return {"capped": weight_BT < ratio_BT}

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        kept, weight = self.kept(batch, current), self.weight(batch, current)
        dropped = aggregate("token-mean", (~kept).to(weight.value.dtype), batch.mask_BT)
        metrics = {**weight.metrics, f"{self.name}/dropped": float(dropped)}
        return Out(self.scale * torch.where(kept, weight.value, 0.0), metrics)


class TrustedTokens(TrustedWeight):
    """``scale`` m alone: the ratio stands in the loss."""

    def weight(self, batch: Batch, current: Stats) -> Out[Tensor]:
        return Out(torch.ones_like(current["logp"]))


@dataclass(frozen=True)
class SquaredLogRatio(Regulariser):
    """``coef`` (log r)^2 against the policy that sampled."""

    coef: float

    current_stats = (LOGP,)
    corrects_rollouts = True

    def coefficient(self) -> float:
        return self.coef

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        return log_ratio(current["logp"], batch.rollout_logp_BT.to(current["logp"].dtype), None) ** 2


@dataclass(frozen=True)
class DPPO(Method):
    """What the entries share."""

    delta_low: float = hp(0.2, "largest fall of a token's probability, where A <= 0", gt=0)
    delta_high: float = hp(0.2, "largest rise of a token's probability, where A > 0", gt=0)
    scale: str = hp("none", "divisor of the advantage", choices=SCALES)

    divergence = "tv"

    def validate(self, run: RunConfig) -> None:
        refuse_lone_rollouts(run, "DPPO takes the group's mean off a reward")
        if not run.rollout.lag:
            refuse_single_update(run, "the policy where it sampled, so DPPO drops no token")

    def credit(self) -> Advantage:
        return GroupAdvantage(scale=self.scale)

    def policy_loss(self) -> Loss:
        raise NotImplementedError

    def stages(self) -> Stages:
        return grpo_stages().with_(advantage=self.credit(), loss=self.policy_loss())


@register("dppo@tv")
@dataclass(frozen=True)
class DPPOTV(DPPO):
    """REINFORCE with capped importance weights; tokens drop out by how far their probability moved."""

    cap: float | None = hp(5.0, "largest importance weight; null is none", gt=0)
    aggregation: str = hp(AGGREGATION, "reduction; dropped tokens are counted", choices=AGGREGATIONS)

    def policy_loss(self) -> Loss:
        weight = TrustedWeight(
            "dppo", BehaviourRatio(), AbsoluteBounds(0.0, math.inf if self.cap is None else self.cap),
            self.divergence, self.delta_low, self.delta_high,
        )  # fmt: skip
        return score_loss(weight, self.aggregation)


@register("dppo@kl")
@dataclass(frozen=True)
class DPPOKL(DPPOTV):
    """REINFORCE with capped importance weights; tokens drop out by their two-point KL."""

    delta_low: float = hp(0.05, "largest two-point KL of a token that fell, where A <= 0, nats", gt=0)
    delta_high: float = hp(0.05, "largest two-point KL of a token that rose, where A > 0, nats", gt=0)

    divergence = "kl"


@register("dppo@prime")
@dataclass(frozen=True)
class DPPOPrime(DPPO):
    """prime-rl's loss: the same test, the ratio itself with its gradient, a pull back to the sampler."""

    adv_tau: float = hp(1.0, "factor on the advantage", gt=0)
    kl_tau: float = hp(1e-3, "weight of the squared log ratio on all tokens", ge=0)

    def policy_loss(self) -> Loss:
        ratio: TokenRatio = BehaviourRatio(clamp=None)
        weight = TrustedTokens(
            "dppo", ratio, divergence=self.divergence, delta_low=self.delta_low, delta_high=self.delta_high,
            scale=self.adv_tau,
        )  # fmt: skip
        unbounded = FixedBounds(math.inf, math.inf)
        return PolicyLoss(ratio, unbounded, weight, aggregation="token-mean")

    def stages(self) -> Stages:
        pull = (SquaredLogRatio(self.kl_tau),) if self.kl_tau else ()
        return super().stages().with_(regularisers=pull)
