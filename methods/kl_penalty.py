r"""The KL to a frozen reference by each of Schulman's estimators, in the loss or in the reward.

With d = logp - ref_logp at a token (J. Schulman, Approximating KL Divergence, 2020):

    k1 = d        k2 = d^2 / 2        k3 = exp(-d) + d - 1

    loss     GRPO's loss + coef * mean of k(current policy), differentiated through logp; with
             bias_corrected of r k, r the token's ratio, differentiated through r, too
    reward   R_i = verdict - coef * sum over the response's tokens of k(old policy), before GRPO's statistics

In expectation over the policy's own draws, k1 in the reward and k2 in the loss have the gradient of
KL(policy || ref), k3 in the loss that of KL(ref || policy), and k1 in the loss none.
"""

from __future__ import annotations

from dataclasses import dataclass

from entrobench import (
    AGGREGATIONS,
    KL_ESTIMATORS,
    REWARD_KL_ESTIMATORS,
    FixedBounds,
    KLReward,
    Method,
    PolicyLoss,
    ReferenceKL,
    RunConfig,
    Stages,
    TokenRatio,
    UserError,
    grpo_stages,
    hp,
    register,
)


@dataclass(frozen=True)
class Penalised(Method):
    """The clipped loss of both entries."""

    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    aggregation: str = hp("seq-mean-token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def loss(self) -> PolicyLoss:
        return PolicyLoss(bounds=FixedBounds(self.eps_low, self.eps_high), aggregation=self.aggregation)


@register("kl-penalty@loss")
@dataclass(frozen=True)
class KLInLoss(Penalised):
    """GRPO with an estimate of the KL to the reference in the loss."""

    coef: float = hp(0.04, "weight of the KL (DeepSeekMath's value)", gt=0)
    estimator: str = hp("k3", "its estimator; a trailing + takes k2's gradient", choices=KL_ESTIMATORS)
    bias_corrected: bool = hp(
        False, "times the token ratio, and without limits (TRL, DeepSeek-V3.2)", absent=False
    )

    def validate(self, run: RunConfig) -> None:
        if self.bias_corrected and self.estimator.endswith("+"):
            raise UserError(
                f"method.estimator={self.estimator} has another estimator's gradient, which the ratio of "
                f"method.bias_corrected=true does not correct; take {self.estimator[:-1]} or k2"
            )

    def kl(self) -> ReferenceKL:
        """The KL's term."""
        if not self.bias_corrected:
            return ReferenceKL(self.coef, self.estimator, self.aggregation)
        return ReferenceKL(
            self.coef, self.estimator, self.aggregation, exponent_clamp=None, value_clamp=None,
            ratio=TokenRatio(None),
        )  # fmt: skip

    def stages(self) -> Stages:
        return grpo_stages().with_(loss=self.loss(), regularisers=(self.kl(),))


@register("kl-penalty@reward")
@dataclass(frozen=True)
class KLInReward(Penalised):
    """GRPO with an estimate of the KL to the reference in the reward."""

    coef: float = hp(0.05, "weight of the KL, summed over the response (TRL's value for RLOO)", gt=0)
    estimator: str = hp("k1", "its estimator; only the value counts", choices=REWARD_KL_ESTIMATORS)

    def stages(self) -> Stages:
        return grpo_stages().with_(loss=self.loss(), reward=KLReward(self.coef, self.estimator))
