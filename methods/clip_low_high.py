r"""Clip-low / clip-high: the two clip ranges of PPO as entropy control (arXiv 2509.26114).

    l_t = max(-A r_t, -A clip(r_t, 1 - eps_low, 1 + eps_high)),   r_t = exp(logp_t - old_logp_t)

GRPO's loss with each side on its own, either of them off, and no dual clip. A clip-low event (A < 0 and
r < 1 - eps_low) raises entropy, a clip-high event (A > 0 and r > 1 + eps_high) lowers it: a smaller eps_low
raises entropy, a smaller eps_high lowers it. The rates of both are logged as ``clip_low`` and ``clip_high``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from entrobench import (
    AGGREGATIONS,
    FixedBounds,
    Method,
    PolicyLoss,
    RunConfig,
    Stages,
    UserError,
    grpo_stages,
    hp,
    refuse_single_update,
    register,
)


@register("clip-low-high")
@dataclass(frozen=True)
class ClipLowHigh(Method):
    """GRPO with clip-high off and a tight clip-low: the setting that raises entropy."""

    eps_low: float | None = hp(0.1, "ratio clip below 1; null, or 1 and more, is off", ge=0)
    eps_high: float | None = hp(None, "ratio clip above 1; null is off", ge=0)
    aggregation: str = hp("seq-mean-token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if self.eps_high is None and (self.eps_low is None or self.eps_low >= 1):
            raise UserError("both sides of the clip are off; set method.eps_low < 1 or method.eps_high")
        refuse_single_update(run, "every ratio at 1 and clips nothing")

    def stages(self) -> Stages:
        off = (math.inf if eps is None else eps for eps in (self.eps_low, self.eps_high))
        loss = PolicyLoss(bounds=FixedBounds(*off), aggregation=self.aggregation)
        return grpo_stages().with_(loss=loss)
