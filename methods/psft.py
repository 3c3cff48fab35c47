r"""PSFT: SFT with PPO's clipped ratio, so that no token is pushed far at once (arXiv 2508.17784).

    r_t = exp(logp_t - old_logp_t)
    l_t = max(-r_t, -clip(r_t, 1 - eps_low, 1 + eps_high)) = -min(r_t, 1 + eps_high)

The advantage is 1 on every token of a demonstration, and the old policy is that of the step's start.
"""

from __future__ import annotations

from dataclasses import dataclass

from entrobench import (
    ClippedMethod,
    FineTuning,
    RunConfig,
    Stages,
    demonstrated,
    hp,
    refuse_single_update,
    register,
)


@register("psft")
@dataclass(frozen=True)
class PSFT(FineTuning, ClippedMethod):
    """GRPO's clipped loss on demonstrations, each token of which has advantage 1."""

    eps_low: float = hp(0.2, "ratio clip below 1; with advantage 1 it never acts", ge=0, lt=1)
    eps_high: float = hp(0.28, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(10.0, "cap on -A r for A < 0, of which there is none; null is off", gt=1)

    def validate(self, run: RunConfig) -> None:
        super().validate(run)
        refuse_single_update(run, "every ratio at 1, so PSFT has SFT's gradient")

    def stages(self) -> Stages:
        return demonstrated(self.clipped_loss())
