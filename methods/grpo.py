r"""GRPO: group relative policy optimisation (DeepSeekMath, arXiv 2402.03300, sec. 4.1).

    A_i = (R_i - mean_group) / (std_group + 1e-6),          std with ddof 1
    l_t = max(-A r_t, -A clip(r_t, 1 - eps_low, 1 + eps_high)),   r_t = exp(logp_t - old_logp_t)

averaged over the tokens of a response, then over responses; optionally + beta * k3(logp, ref_logp) per token.
"""

from __future__ import annotations

from dataclasses import dataclass

from entrobench import (
    AGGREGATIONS,
    KL_ESTIMATORS,
    FixedBounds,
    GroupAdvantage,
    Method,
    PolicyLoss,
    ReferenceKL,
    RunConfig,
    Stages,
    UserError,
    VerdictReward,
    grpo_stages,
    hp,
    register,
)


@register("grpo")
@dataclass(frozen=True)
class GRPO(Method):
    """The baseline of every other method; its variants are options."""

    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(None, "cap on -A r for A < 0 (verl 3.0); null is off", gt=1)
    scale: str = hp("group", "divisor of the advantage", choices=("group", "batch", "none"))
    aggregation: str = hp("seq-mean-token-mean", "reduction of the token losses", choices=AGGREGATIONS)
    kl_coef: float = hp(0.0, "weight of the KL to the frozen reference in the loss (paper 0.04)", ge=0)
    kl_estimator: str = hp("k3", "estimator of that KL", choices=KL_ESTIMATORS)
    reward_right: float = hp(1.0, "reward of a correct response")
    reward_wrong: float = hp(0.0, "reward of any other response")

    def validate(self, run: RunConfig) -> None:
        if self.reward_right <= self.reward_wrong:
            raise UserError("method.reward_right must exceed method.reward_wrong")

    def stages(self) -> Stages:
        regularisers = (
            (ReferenceKL(self.kl_coef, self.kl_estimator, self.aggregation),) if self.kl_coef else ()
        )
        return grpo_stages().with_(
            reward=VerdictReward(self.reward_right, self.reward_wrong),
            advantage=GroupAdvantage(scale=self.scale),
            loss=PolicyLoss(
                bounds=FixedBounds(self.eps_low, self.eps_high),
                dual_clip=self.dual_clip,
                aggregation=self.aggregation,
            ),
            regularisers=regularisers,
        )
