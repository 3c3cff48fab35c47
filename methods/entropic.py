r"""EntroPIC: entropy held at a target by a proportional-integral controller (arXiv 2511.15248).

H is the token-mean entropy of a minibatch under the policy that is about to be updated, P its tokens that the
policy is already sure of (p > 0.95), both constants of the update:

    alpha = clip(K_p (H - H*) + K_i I, -1, 1)
    loss = PPO clip over all tokens + alpha * mean over P of (-r |A|)             r unclipped
    I <- I + H - H*                                                               after the optimiser step

On P a token's weight is 1 + alpha where A > 0 and 1 - alpha where A < 0, but for the second mean's divisor.
Too much entropy: sure tokens are reinforced more and punished less, which lowers it; too little: the reverse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from entrobench import (
    AGGREGATIONS,
    ENTROPY,
    LOGP,
    Batch,
    ClippedMethod,
    Component,
    Out,
    Regulariser,
    Signals,
    Stage,
    Stages,
    Stats,
    StepContext,
    TokenRatio,
    aggregate,
    counted_share,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


def controlled(error: float, integral: float, kp: float, ki: float, limit: float = 1.0) -> float:
    """alpha of an entropy that is ``error`` nats above its target."""
    return min(max(kp * error + ki * integral, -limit), limit)


def sure_tokens(logp_BT: Tensor, mask_BT: Tensor, p_min: float) -> Tensor:
    """P, bool ``[B,T]``: valid tokens more likely than ``p_min``."""
    return (logp_BT > math.log(p_min)) & mask_BT.bool()


class PIController(Component):
    """The integral I (nats x optimiser steps), and alpha of the entropy at hand."""

    def __init__(
        self, target: float, kp: float, ki: float, limit: float = 1.0, integral: float = 0.0
    ) -> None:
        self.target, self.kp, self.ki, self.limit, self.integral = target, kp, ki, limit, integral
        self._last = math.nan

    def alpha(self, entropy: float) -> float:
        """alpha for a minibatch of this entropy (nats), before it counts in the integral."""
        return controlled(entropy - self.target, self.integral, self.kp, self.ki, self.limit)

    def observe(self, entropy: float, share: float = 1.0) -> None:
        """Count a minibatch's entropy, or that of a ``share`` of its rows."""
        self.integral += (entropy - self.target) * share
        self._last = entropy

    def after_minibatch(self, entropy: float, ctx: StepContext) -> None:
        self.observe(entropy)

    def after_update(self, signals: Signals, ctx: StepContext) -> Mapping[str, float]:
        return {
            "entropic/integral": self.integral,
            "target_error": abs(self._last - self.target),
            "target_above": float(self._last > self.target),
        }

    def state_dict(self) -> dict[str, Any]:
        return {"integral": self.integral}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.integral = float(state["integral"])


@dataclass(frozen=True)
class SureTokens(Regulariser):
    """alpha * agg over P of (-r \\|A\\|), with P's own divisor."""

    control: PIController
    p_min: float = 0.95
    aggregation: str = "token-mean"
    entropy_aggregation: str = "token-mean"
    ratio: TokenRatio = TokenRatio()

    old_stats = (LOGP,)
    current_stats = (LOGP, ENTROPY)
    minibatch_scope = True

    def parts(self) -> tuple[Stage, ...]:
        return (self.ratio,)

    def coefficient(self) -> float:
        return 1.0

    def prepare(self, batch: Batch, current: Stats) -> Out[dict[str, Tensor]]:
        logp, mask = current["logp"], batch.train_mask_BT
        entropy = float(aggregate(self.entropy_aggregation, current["entropy"], mask))
        alpha = self.control.alpha(entropy)
        sure = sure_tokens(logp, mask, self.p_min)
        prepared = {"alpha": logp.new_tensor(alpha), "counted": counted_share(self.aggregation, sure, mask)}
        share = float(sure.sum()) / max(int(mask.sum()), 1)
        return Out(prepared, {"entropic/alpha": alpha, "entropic/sure": share})

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        advantage = batch.advantages().to(current["logp"].dtype)
        return -prepared["alpha"] * self.ratio.ratio(batch, current) * advantage.abs()


@register("entropic")
@dataclass(frozen=True)
class EntroPIC(ClippedMethod):
    """GRPO with a term on sure tokens whose weight a PI controller moves to hold a target entropy."""

    target_entropy: float = hp(0.1, "H*, nats per token", gt=0)
    kp: float = hp(1.0, "proportional gain, 1/nat", ge=0)
    ki: float = hp(0.01, "integral gain, 1/nat per optimiser step", ge=0)
    alpha_limit: float = hp(1.0, "largest |alpha|", gt=0)
    p_min: float = hp(0.95, "tokens more likely than this are sure", gt=0, lt=1)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("token-mean", "reduction, of either term over its own tokens", choices=AGGREGATIONS)

    def stages(self) -> Stages:
        control = PIController(self.target_entropy, self.kp, self.ki, self.alpha_limit)
        loss = self.clipped_loss()
        sure = SureTokens(control, self.p_min, self.aggregation)
        return grpo_stages().with_(loss=loss, regularisers=(sure,), components={"entropic": control})
