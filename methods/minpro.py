r"""MinPRO: the smallest ratio of the prefix in place of the product over it (arXiv 2601.22718).

    rho_t = exp(logp_t - old_logp_t)
    m_t   = min over i < t of rho_i,   1 at the first token
    w_t   = sg[ clip(m_t rho_t, floor, cap) ]
    l_t   = -w_t A logp_t

with GRPO's advantage A, averaged over tokens. The log ratio is not clamped. The exact off-policy correction
of token t is the product of rho_1 ... rho_t; the paper reports that the product itself does not train. With
``seeded`` the running minimum starts at 1, so that a prefix only ever lowers a weight: which of the two the
paper means is open. Floor and cap are not the paper's, which could not be read, but CISPO's habit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from entrobench import (
    AGGREGATIONS,
    AbsoluteBounds,
    BoundedWeight,
    Method,
    PrefixMinimumRatio,
    RunConfig,
    Stages,
    UserError,
    grpo_stages,
    hp,
    refuse_single_update,
    register,
    score_loss,
)


@register("minpro")
@dataclass(frozen=True)
class MinPRO(Method):
    """CISPO on the token's ratio times the smallest ratio before it; bounds and seeding are unverified."""

    cap: float = hp(5.0, "largest weight, absolute (1 + eps_high); unverified", gt=0)
    floor: float = hp(0.0, "smallest weight, absolute (1 - eps_low); 0 is none; unverified", ge=0)
    seeded: bool = hp(False, "the running minimum starts at 1, so m_t is never above 1")
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if self.floor >= self.cap:
            raise UserError("method.floor must be below method.cap; lower floor (0 is none) or raise cap")
        refuse_single_update(run, "every ratio at 1, so MinPRO is GRPO")

    def stages(self) -> Stages:
        ratio = PrefixMinimumRatio(at_most=0.0 if self.seeded else math.inf)
        weight = BoundedWeight("minpro", ratio, AbsoluteBounds(self.floor, self.cap))
        return grpo_stages().with_(loss=score_loss(weight, self.aggregation))
