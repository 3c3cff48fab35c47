r"""CISPO: clipped importance-sampling policy optimisation (MiniMax-M1, arXiv 2506.13585, eq. 4-5).

    r_t = exp(clamp(logp_t - old_logp_t, -20, 20))
    w_t = sg[ clip(r_t, floor, cap) ]
    l_t = -w_t A logp_t

with GRPO's advantage A, averaged over tokens: REINFORCE with a truncated importance weight, so that no token
loses its gradient, whatever its ratio. The paper has no floor and does not print its cap.
"""

from __future__ import annotations

from dataclasses import dataclass

from entrobench import (
    AGGREGATIONS,
    AbsoluteBounds,
    BoundedWeight,
    Method,
    RunConfig,
    Stages,
    UserError,
    grpo_stages,
    hp,
    refuse_single_update,
    register,
    score_loss,
)


@register("cispo")
@dataclass(frozen=True)
class CISPO(Method):
    """REINFORCE with GRPO's advantage and a truncated importance weight."""

    cap: float = hp(5.0, "largest weight, absolute (verl's 1 + eps_high)", gt=0)
    floor: float = hp(0.0, "smallest weight, absolute (verl's 1 - eps_low); 0 is none", ge=0)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if self.floor >= self.cap:
            raise UserError("method.floor must be below method.cap; lower floor (0 is none) or raise cap")
        refuse_single_update(run, "every weight at 1, so CISPO is GRPO")

    def stages(self) -> Stages:
        weight = BoundedWeight("cispo", bounds=AbsoluteBounds(self.floor, self.cap))
        return grpo_stages().with_(loss=score_loss(weight, self.aggregation))
