r"""The two classical controls on top of GRPO: an entropy bonus, and a KL penalty to a frozen reference.

    loss = pg_loss - c agg(H) + beta agg(kl(logp, ref_logp))

H is the full-softmax entropy. c is fixed, or adaptive (Skywork-OR1, arXiv 2505.22312, as in TRL): in each
optimiser step it applies only if the entropy of the step before was at most the target; after the step it
grows by delta if the step's entropy was at most the target, else shrinks, within [min, max].

The KL may instead stand in the reward (verl): token reward = score on the last token - beta (old_logp -
ref_logp), summed over the row, with beta fixed or adaptive (arXiv 1909.08593): after each batch of n rows
    beta <- beta (1 + clip(KL / target - 1, -0.2, 0.2) n / horizon).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from entrobench import (
    AGGREGATIONS,
    KL_ESTIMATORS,
    KL_METRIC,
    Component,
    EntropyBonus,
    FixedBounds,
    KLReward,
    Method,
    PolicyLoss,
    ReferenceKL,
    Regulariser,
    RunConfig,
    Signals,
    Stages,
    StepContext,
    UserError,
    grpo_stages,
    hp,
    register,
)


def adapted_beta(
    beta: float, kl: float, rows: int, target: float, horizon: float, error_clip: float = 0.2
) -> float:
    """beta after a batch of ``rows`` rollouts with the measured ``kl``."""
    error = min(max(kl / target - 1, -error_clip), error_clip)
    return beta * (1 + error * rows / horizon)


class AdaptiveKL(Component):
    """beta of the KL in the reward."""

    def __init__(self, beta: float, target: float, horizon: float) -> None:
        self.beta, self.target, self.horizon = beta, target, horizon

    def applied(self) -> float:
        """The weight of this step's rewards."""
        return self.beta

    def state_dict(self) -> dict[str, Any]:
        return {"beta": self.beta}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.beta = float(state["beta"])

    def after_update(self, signals: Signals, ctx: StepContext) -> Mapping[str, float]:
        self.beta = adapted_beta(
            self.beta, signals.metrics[KL_METRIC], signals.rows, self.target, self.horizon
        )
        return {"kl_in_reward/beta": self.beta}


class AdaptiveEntropy(Component):
    """The entropy coefficient and the entropy of the optimiser step before."""

    def __init__(
        self, coef: float, target: float, delta: float, low: float, high: float, unseen: float = 0.0
    ) -> None:
        self.coef, self.target, self.delta, self.low, self.high = coef, target, delta, low, high
        self.last_entropy, self.unseen = math.inf, unseen

    def applied(self) -> float:
        """The weight of this optimiser step; ``unseen`` before the first observation."""
        if math.isinf(self.last_entropy):
            return self.unseen
        return self.coef if self.last_entropy <= self.target else 0.0

    def after_minibatch(self, entropy: float, ctx: StepContext) -> None:
        self.observe(entropy)

    def after_update(self, signals: Signals, ctx: StepContext) -> Mapping[str, float]:
        return {
            "entropy_bonus/coef": self.applied(),
            "target_error": abs(self.last_entropy - self.target),
            "target_above": float(self.last_entropy > self.target),
        }

    def observe(self, entropy: float) -> None:
        """Take in the global token entropy of an optimiser step, after its coefficient was read."""
        step = self.delta if entropy <= self.target else -self.delta
        self.coef = min(max(self.coef + step, self.low), self.high)
        self.last_entropy = entropy

    def state_dict(self) -> dict[str, Any]:
        return {"coef": self.coef, "last_entropy": self.last_entropy}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.coef, self.last_entropy = float(state["coef"]), float(state["last_entropy"])


@register("entropy-bonus")
@dataclass(frozen=True)
class EntropyAndKL(Method):
    """GRPO with an entropy bonus; KL penalties and adaptive coefficients are options."""

    entropy_coef: float = hp(0.001, "weight of the entropy bonus; the start value when adaptive", ge=0)
    entropy_adaptive: bool = hp(False, "move the weight towards a target entropy")
    entropy_target: float = hp(0.2, "target entropy, nats per token", gt=0)
    entropy_delta: float = hp(0.005, "change of the weight per optimiser step", gt=0)
    entropy_min: float = hp(0.0, "least weight", ge=0)
    entropy_max: float = hp(1.0, "largest weight", ge=0)
    entropy_aggregation: str = hp("same", "reduction of the entropy", choices=("same", *AGGREGATIONS))
    kl_coef: float = hp(0.0, "weight of the KL in the loss", ge=0)
    kl_estimator: str = hp("k3", "estimator of that KL", choices=KL_ESTIMATORS)
    kl_in_reward_coef: float = hp(0.0, "weight of the KL in the reward; the start value when adaptive", ge=0)
    kl_adaptive: bool = hp(False, "move the weight in the reward towards a target KL")
    kl_target: float = hp(0.1, "target KL, nats per token", gt=0)
    kl_horizon: float = hp(10000.0, "rollouts over which the weight adapts", gt=0)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if self.entropy_min > self.entropy_max:
            raise UserError("method.entropy_min exceeds method.entropy_max; lower it")
        if self.kl_adaptive and not self.kl_in_reward_coef:
            raise UserError("method.kl_adaptive moves the KL in the reward; set method.kl_in_reward_coef > 0")

    def stages(self) -> Stages:
        mode = self.aggregation if self.entropy_aggregation == "same" else self.entropy_aggregation
        regularisers: list[Regulariser] = []
        changes: dict[str, Any] = {"components": {}}
        if self.entropy_adaptive:
            control = AdaptiveEntropy(
                self.entropy_coef, self.entropy_target, self.entropy_delta, self.entropy_min, self.entropy_max
            )
            regularisers.append(EntropyBonus(control.applied, mode))
            changes["components"]["adaptive_entropy"] = control
        elif self.entropy_coef:
            regularisers.append(EntropyBonus(self.entropy_coef, mode))
        if self.kl_coef:
            regularisers.append(ReferenceKL(self.kl_coef, self.kl_estimator, self.aggregation))
        if self.kl_in_reward_coef:
            beta: float | Callable[[], float] = self.kl_in_reward_coef
            if self.kl_adaptive:
                adaptive = AdaptiveKL(self.kl_in_reward_coef, self.kl_target, self.kl_horizon)
                beta = adaptive.applied
                changes["components"]["adaptive_kl"] = adaptive
            changes["reward"] = KLReward(beta)
        bounds = FixedBounds(self.eps_low, self.eps_high)
        loss = PolicyLoss(bounds=bounds, dual_clip=self.dual_clip, aggregation=self.aggregation)
        return grpo_stages().with_(loss=loss, regularisers=tuple(regularisers), **changes)
