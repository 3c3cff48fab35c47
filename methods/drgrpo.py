r"""Dr. GRPO: GRPO without its two biases (arXiv 2503.20783, sec. 3.2).

    A_i = R_i - mean_group                                       no division by the group's std
    r_t = exp(logp_t - old_logp_t),   l_t = max(-A r_t, -A clip(r_t, 1 - eps_low, 1 + eps_high))
    loss = mean over all responses of  (1 / L) sum_t l_t         L the generation budget, not the length

optionally + beta * k3(logp, ref_logp) per token, reduced alike, with the log ratio clamped to +-40. L is
``rollout.max_response_tokens``. No dual clip; the ratio is not clamped.
"""

from __future__ import annotations

from dataclasses import dataclass

from entrobench import (
    FixedBounds,
    GroupAdvantage,
    Method,
    PolicyLoss,
    ReferenceKL,
    Stages,
    TokenRatio,
    grpo_stages,
    hp,
    register,
)

#: Mean over all responses, empty ones too, of token sum / generation budget.
AGGREGATION = "all-seq-mean-token-sum-norm"


@register("drgrpo")
@dataclass(frozen=True)
class DrGRPO(Method):
    """GRPO with a mean-free reward as advantage and a constant divisor; both are fixed, being the method."""

    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    kl_coef: float = hp(0.0, "weight of the k3 KL to the frozen reference", ge=0)

    def stages(self) -> Stages:
        kl = ReferenceKL(
            self.kl_coef, "k3", AGGREGATION, exponent_clamp=None, value_clamp=None, log_ratio_clamp=40.0
        )
        return grpo_stages().with_(
            advantage=GroupAdvantage(scale="none"),
            loss=PolicyLoss(
                ratio=TokenRatio(clamp=None),
                bounds=FixedBounds(self.eps_low, self.eps_high),
                aggregation=AGGREGATION,
            ),
            regularisers=(kl,) if self.kl_coef else (),
        )
