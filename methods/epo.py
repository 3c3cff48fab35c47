r"""EPO: entropy-regularised policy optimisation (arXiv 2509.22576), for responses of one turn.

An entropy bonus, and a corridor around the mean entropy h of the rollouts so far; H_t is the CURRENT policy's
entropy at a token, u the share of the run that is used when the step starts:

    released   P_t = 0 where kappa_l h < H_t < kappa_r h, else alpha;   h with this step's rollouts
               loss = L_pg - lambda (mean H - c_s w(u) mean P),         means over tokens
               w = 1 - 0.2 (1 - exp(-2 e/75)) for e <= 75, then 0.8 exp(-3 (e - 75)/75),   e = 150 u
    paper      P_t = alpha ( [kappa_l h - H_t]_+ + [H_t - kappa_r h]_+ ),   h of earlier steps; 0 in the first
               loss = L_pg - lambda (mean H - beta mean P),             means over responses of token means
               beta = 1 + exp(-gamma k / floor(K/2)),                   step k of K, from 0

The released P is a constant: it has no gradient, and the released update is an entropy bonus's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from entrobench import (
    AGGREGATIONS,
    ENTROPY,
    Batch,
    ClippedMethod,
    Component,
    EntropyBonus,
    Out,
    Regulariser,
    RunConfig,
    Signals,
    Stages,
    Stats,
    StepContext,
    UserError,
    aggregate,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

#: Epochs of a run by the released code, whatever the run's length is.
EPOCHS = 150
BY_ROW = "seq-mean-token-mean"


def phase_weight(epoch: float, epochs: int = EPOCHS) -> float:
    """w of the released code: 1 at the start, about 0.83 at half of ``epochs``, about 0.04 at the end."""
    half = epochs // 2
    if epoch <= half:
        return 1 - 0.2 * (1 - math.exp(-2 * epoch / half))
    return 0.8 * math.exp(-3 * (epoch - half) / (epochs - half))


def smoothing_weight(step: float, steps: int, gamma: float) -> float:
    """beta of the revised paper: 2 at the start, falling towards 1."""
    return 1 + math.exp(-gamma * step / max(steps // 2, 1))


def constant_penalty(
    entropy_BT: Tensor, history: Tensor | float, kappa_l: float, kappa_r: float, alpha: float
) -> Tensor:
    """P of the released code, ``[B,T]``; both sides are strict. ``history`` is a scalar or ``[B,1]``."""
    inside = (kappa_l * history < entropy_BT) & (entropy_BT < kappa_r * history)
    return torch.where(inside, 0.0, torch.full_like(entropy_BT, alpha))


def hinge_penalty(
    entropy_BT: Tensor, history: Tensor | float, kappa_l: float, kappa_r: float, alpha: float
) -> Tensor:
    """P of the revised paper, ``[B,T]``, differentiable."""
    below, above = kappa_l * history - entropy_BT, entropy_BT - kappa_r * history
    return alpha * (below.clamp(min=0) + above.clamp(min=0))


def response_mean(entropy_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The mean over a response on each of its tokens, ``[B,T]``."""
    mask = mask_BT.bool()
    mean = torch.where(mask, entropy_BT, 0.0).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    return mean.expand(mask.shape)


class EntropyHistory(Component):
    """Sum and number of the batches' mean entropies (nats), and where the run stands.

    ``with_current``: the batch that is trained on is in it, as in the released code.
    """

    def __init__(self, with_current: bool) -> None:
        self.with_current = with_current
        self.total, self.rollouts = 0.0, 0
        self.started, self.total_steps = 0.0, 1

    def state_dict(self) -> dict[str, Any]:
        return {
            "total": self.total,
            "rollouts": self.rollouts,
            "started": self.started,
            "total_steps": self.total_steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.total, self.rollouts = float(state["total"]), int(state["rollouts"])
        self.started, self.total_steps = float(state["started"]), int(state["total_steps"])

    @property
    def mean(self) -> float | None:
        """h; None before the first batch."""
        return self.total / self.rollouts if self.rollouts else None

    def observe(self, entropy: float) -> None:
        """Take in the mean entropy of a step's rollouts under the policy that drew them."""
        self.total, self.rollouts = self.total + entropy, self.rollouts + 1

    def begin_step(self, ctx: StepContext) -> None:
        self.started, self.total_steps = ctx.started, ctx.total_steps

    def before_update(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        if self.with_current:
            self.observe(float(aggregate("token-mean", batch.old["entropy"], batch.mask_BT)))
        return {"epo/history": self.mean or 0.0}

    def after_update(self, signals: Signals, ctx: StepContext) -> Mapping[str, float]:
        if not self.with_current:
            self.observe(signals.entropy)
        return {}


@dataclass(frozen=True)
class Corridor(Regulariser):
    """``+ coefficient * agg(P)``; nothing before there is a history."""

    history: EntropyHistory
    coef: float
    kappa_l: float
    kappa_r: float
    alpha: float

    current_stats = (ENTROPY,)

    def penalty(self, batch: Batch, entropy_BT: Tensor, history: float) -> Tensor:
        raise NotImplementedError

    def prepare(self, batch: Batch, current: Stats) -> Out[dict[str, Tensor]]:
        outside = self(batch, current, {}) > 0
        share = float(aggregate("token-mean", outside.float(), batch.mask_BT))
        return Out({}, {"epo/outside": share, "epo/coefficient": self.coefficient()})

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        history, entropy = self.history.mean, current["entropy"]
        return torch.zeros_like(entropy) if history is None else self.penalty(batch, entropy, history)


@dataclass(frozen=True)
class ConstantCorridor(Corridor):
    """The released P, weighed by the phase of the run; no gradient."""

    mode: str = "token"
    phase: bool = True
    aggregation: str = "token-mean"

    def coefficient(self) -> float:
        return self.coef * (phase_weight(EPOCHS * self.history.started) if self.phase else 1.0)

    def penalty(self, batch: Batch, entropy_BT: Tensor, history: float) -> Tensor:
        value = entropy_BT.detach()
        if self.mode == "seq":
            value = response_mean(value, batch.mask_BT)
        return constant_penalty(value, history, self.kappa_l, self.kappa_r, self.alpha)


@dataclass(frozen=True)
class HingeCorridor(Corridor):
    """The revised paper's P."""

    gamma: float = 1.0
    aggregation: str = BY_ROW

    def coefficient(self) -> float:
        steps = self.history.total_steps
        return self.coef * smoothing_weight(self.history.started * steps, steps, self.gamma)

    def penalty(self, batch: Batch, entropy_BT: Tensor, history: float) -> Tensor:
        return hinge_penalty(entropy_BT, history, self.kappa_l, self.kappa_r, self.alpha)


@dataclass(frozen=True)
class EPO(ClippedMethod):
    """What both entries share."""

    entropy_coef: float = hp(0.001, "lambda, weight of the entropy and the corridor", gt=0)
    kappa_l: float = hp(0.0, "lower edge of the corridor in units of the history", ge=0)
    kappa_r: float = hp(2.0, "upper edge of the corridor in units of the history", gt=0)
    alpha: float = hp(0.1, "size of the penalty outside the corridor", gt=0)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("token-mean", "reduction of the policy's token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if self.kappa_l >= self.kappa_r:
            raise UserError("method.kappa_l must be below method.kappa_r; lower it or raise kappa_r")

    def with_corridor(self, corridor: Corridor) -> Stages:
        loss = self.clipped_loss()
        bonus = EntropyBonus(self.entropy_coef, corridor.aggregation)
        return grpo_stages().with_(
            loss=loss, regularisers=(bonus, corridor), components={"epo": corridor.history}
        )


@register("epo@released")
@dataclass(frozen=True)
class EPOReleased(EPO):
    """The official code: a penalty without a gradient, so that only the entropy bonus acts."""

    mode: str = hp("token", "what is tested: each token, or the response's mean", choices=("token", "seq"))
    smooth_coef: float = hp(1.0, "c_s, weight of the penalty within lambda", ge=0)
    phase: bool = hp(True, "the penalty's weight falls over the run")

    def stages(self) -> Stages:
        return self.with_corridor(
            ConstantCorridor(
                EntropyHistory(with_current=True), self.entropy_coef * self.smooth_coef, self.kappa_l,
                self.kappa_r, self.alpha, self.mode, self.phase,
            )
        )  # fmt: skip


@register("epo@paper")
@dataclass(frozen=True)
class EPOPaper(EPO):
    """The revised paper: a hinge that pulls entropy back into the corridor."""

    gamma: float = hp(1.0, "how fast the corridor's weight falls from 2 to 1; unverified", ge=0)

    def stages(self) -> Stages:
        history = EntropyHistory(with_current=False)
        return self.with_corridor(
            HingeCorridor(history, self.entropy_coef, self.kappa_l, self.kappa_r, self.alpha, self.gamma)
        )
