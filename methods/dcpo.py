r"""DCPO: distribution-centric policy optimisation (arXiv 2601.12730).

AEPO's effect without extra samples: correct answers get a REINFORCE term, weighted as if they had been drawn
from a hotter or colder policy. h is the measured entropy of the step before (0 at the start), H_0 the target:

    T = T_high if h <= H_0 else T_low
    rho_t = exp(old^T_t - old_t),    old^T = log-softmax(z / T) at the sampled token, z the OLD logits
    b_i = 1 if the reward exceeds 0.05, else 0;     acc = mean of b over the batch
    d = min(|H_0 - h|, 0.1) / acc,   alpha = d / (1 + d)
    A'_it = (1 - alpha) A_i + alpha b_i rho_it,     A GRPO's
    h <- token mean of -log pi of the trained tokens during the update

then the clipped loss on A'. rho is a constant, and is not clipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrobench import (
    AGGREGATIONS,
    LOGP,
    Advantage,
    Batch,
    FixedBounds,
    LogProb,
    Method,
    Out,
    PolicyLoss,
    Stages,
    StepContext,
    TokenStat,
    aggregate,
    finite_exp,
    group_normalised,
    grpo_stages,
    hp,
    register,
)
from methods.aepo import EntropyState, extra_temperature

if TYPE_CHECKING:
    from torch import Tensor


def mixing(h: float, target: float, gap_cap: float, accuracy: float) -> float:
    """alpha; 0 where no answer is correct (0 / 0 in the code: there is nothing to add)."""
    if accuracy == 0:
        return 0.0
    d = min(abs(target - h), gap_cap) / accuracy
    return d / (1 + d)


def tempered_ratio(tempered_logp_BT: Tensor, logp_BT: Tensor) -> Tensor:
    """rho, ``[B,T]``."""
    return finite_exp(tempered_logp_BT - logp_BT)


def mixed_advantage(advantage_B: Tensor, good_B: Tensor, rho_BT: Tensor, alpha: float) -> Tensor:
    """A', ``[B,T]``."""
    return (1 - alpha) * advantage_B[:, None] + alpha * good_B[:, None] * rho_BT


@dataclass(frozen=True)
class VirtualTemperature(Advantage):
    """A' above."""

    state: EntropyState
    t_high: float
    t_low: float
    gap_cap: float
    score_threshold: float
    std_eps: float = 1e-6

    @property
    def old_stats(self) -> tuple[TokenStat, ...]:  # type: ignore[override]
        return (LOGP, self.tempered)

    @property
    def temperature(self) -> float:
        return extra_temperature(self.state.h, self.state.target, self.t_high, self.t_low)

    @property
    def tempered(self) -> LogProb:
        """The statistic of this step: only the temperature that is used is computed."""
        return LogProb(scale=1 / self.temperature)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        reward = batch.rewards()
        advantage_B = group_normalised(reward, batch.group_B, eps=self.std_eps)
        good_B = (reward > self.score_threshold).to(advantage_B.dtype)
        alpha = mixing(self.state.h, self.state.target, self.gap_cap, float(good_B.double().mean()))
        rho_BT = tempered_ratio(batch.old[self.tempered.name], batch.old["logp"])
        mixed = mixed_advantage(advantage_B, good_B, rho_BT.to(advantage_B.dtype), alpha)
        metrics = {
            "dcpo/temperature": self.temperature,
            "dcpo/alpha": alpha,
            "dcpo/rho_mean": float(aggregate("token-mean", rho_BT, batch.mask_BT)),
        }
        return Out(mixed, metrics)


@register("dcpo")
@dataclass(frozen=True)
class DCPO(Method):
    """GRPO mixed with a REINFORCE term under a virtually tempered policy that steers the entropy."""

    entropy_target: float = hp(0.5, "H_0, nats per token", gt=0)
    t_high: float = hp(1.2, "virtual temperature that raises entropy", gt=1)
    t_low: float = hp(0.8, "virtual temperature that lowers entropy", gt=0, lt=1)
    gap_cap: float = hp(0.1, "largest distance to the target that counts, nats", gt=0)
    score_threshold: float = hp(0.05, "reward above which an answer counts as correct")
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def stages(self) -> Stages:
        state = EntropyState(self.entropy_target)
        return grpo_stages().with_(
            advantage=VirtualTemperature(state, self.t_high, self.t_low, self.gap_cap, self.score_threshold),
            loss=PolicyLoss(
                bounds=FixedBounds(self.eps_low, self.eps_high),
                dual_clip=self.dual_clip,
                aggregation=self.aggregation,
            ),
            components={"dcpo": state},
        )
