r"""BuPO: bottom-up policy optimisation (arXiv 2512.19673).

Read behind decoder layer l, the head is a policy of its own. With h^l the sum behind that layer (no final
norm), W_U the head and T the rollout temperature:

    Z^l = h^l W_U^T / T,   logp^l = log-softmax(Z^l) at the sampled token
    r_t = exp(clamp(logp^l_t - old_logp^l_t, +-20))      in the first ``internal_steps`` steps,
    r_t = exp(clamp(logp_t - old_logp_t, +-20))          of the full policy afterwards
    l_t = max(-A r, -A clip(r, 1 - eps_low, 1 + eps_high)), at most -A dual_clip where A < 0;  token mean

with GRPO's advantages and rollouts of the full policy throughout. The layers above l, and the final norm, get
gradient 0 in the first phase. Behind the last layer the internal policy is the full one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from entrobench import (
    AGGREGATIONS,
    LOGP,
    Batch,
    Component,
    FixedBounds,
    LogProb,
    Method,
    PolicyLoss,
    RunConfig,
    Stages,
    Stats,
    StepContext,
    TokenRatio,
    TokenStat,
    UserError,
    grpo_stages,
    hp,
    log_ratio,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


class Phase(Component):
    """Whether the internal policy is trained: in the steps 1 to ``internal_steps``."""

    def __init__(self, internal_steps: int) -> None:
        self.internal_steps, self.step = internal_steps, 0

    @property
    def internal(self) -> bool:
        return max(self.step, 1) <= self.internal_steps

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step = int(state["step"])

    def begin_step(self, ctx: StepContext) -> None:
        self.step = ctx.step

    def before_update(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        return {"bupo/internal": float(self.internal)}


@dataclass(frozen=True)
class PhaseRatio(TokenRatio):
    """The ratio of the internal policy or of the full one; old and current log-prob are of the same."""

    phase: Phase = field(kw_only=True)
    layer: float = field(kw_only=True)

    @property
    def stat(self) -> LogProb:
        return LogProb(layer=self.layer) if self.phase.internal else LOGP

    @property
    def old_stats(self) -> tuple[TokenStat, ...]:  # type: ignore[override]
        return (self.stat,)

    @property
    def current_stats(self) -> tuple[TokenStat, ...]:  # type: ignore[override]
        return (self.stat,)

    def log_ratio(self, batch: Batch, current: Stats) -> Tensor:
        return log_ratio(current[self.stat.name], batch.old[self.stat.name], self.clamp)


@register("bupo")
@dataclass(frozen=True)
class BuPO(Method):
    """GRPO on the policy inside the model first, on the whole of it afterwards."""

    layer: float = hp(
        0.17, "layer behind which the head reads: its number from 1, or below 1 a share of the layers", gt=0
    )
    internal_steps: int = hp(30, "steps that train the internal policy, the first ones", ge=0)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(10.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if self.layer >= 1 and self.layer != int(self.layer):
            raise UserError(
                f"method.layer={self.layer:g} is no layer; use a whole number from 1, or a share below 1"
            )

    def stages(self) -> Stages:
        phase = Phase(self.internal_steps)
        loss = PolicyLoss(
            ratio=PhaseRatio(phase=phase, layer=self.layer),
            bounds=FixedBounds(self.eps_low, self.eps_high),
            dual_clip=self.dual_clip,
            aggregation=self.aggregation,
        )
        return grpo_stages().with_(loss=loss, components={"bupo": phase})
