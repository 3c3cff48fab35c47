r"""A step no longer than the softmax's convergence radius (Ghosts of Softmax, arXiv 2603.13552), on GRPO.

With p the step that the optimiser proposes, tau = |p| over all weights, v = p / tau and J the derivative of
the logits by the weights:

    a = J v,   Delta = max over the minibatch's response tokens of (max_k a_k - min_k a_k)
    rho = pi / (Delta + 1e-12)
    s = min(1, target rho / tau)     rule cap:   the step s p is made
    s = target rho / tau             rule set:   as long as the radius says, whatever the learning rate

The optimiser's moments are not altered. A log-sum-exp along v has a singularity no nearer than rho. The rule
``output-proxy`` of the paper's package is another, heuristic one: with z the logits themselves,

    rho_out = pi / (mean over tokens of (max_k z_k - min_k z_k) + 1e-6)
    learning rate x clip(rho_out, 0.01, 1)

``proxy`` names what stands for the mean: ``max`` of the same over tokens, or ``top2``, the mean distance of
the two largest logits. The diagnostic ``softmax-radius`` logs tau, rho and tau / rho of any run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrobench import (
    Batch,
    Diagnostic,
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    ProposedStep,
    RunConfig,
    Stages,
    Stats,
    StepContext,
    StepSize,
    TokenStat,
    UserError,
    diagnostic,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

RULES = ("cap", "set", "output-proxy")
PROXIES = ("mean", "max", "top2")


def radius(spread: float, eps: float = 1e-12) -> float:
    """rho, in the unit of the step's length."""
    return math.pi / (spread + eps)


def step_scale(length: float, rho: float, target: float, rule: str) -> float:
    """s; a step of no length stays as it is."""
    if length == 0:
        return 1.0
    wanted = target * rho / length
    return wanted if rule == "set" else min(1.0, wanted)


def logit_spread(logits_NV: Tensor) -> Tensor:
    """max_k z_k - min_k z_k, ``[N]``."""
    return logits_NV.amax(1) - logits_NV.amin(1)


def top_gap(logits_NV: Tensor) -> Tensor:
    """The distance of the two largest logits, ``[N]``."""
    first, second = logits_NV.topk(2, 1).values.unbind(1)
    return first - second


def output_radius(spread_N: Tensor, proxy: str, eps: float = 1e-6) -> float:
    """rho_out; ``spread_N`` is :func:`logit_spread`, or :func:`top_gap` for ``top2``."""
    return math.pi / (float(spread_N.max() if proxy == "max" else spread_N.mean()) + eps)


@dataclass(frozen=True)
class LogitSpread(TokenStat):
    """:func:`logit_spread`."""

    name: str = "logit_spread"

    def compute(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        return logit_spread(logits_NV)


@dataclass(frozen=True)
class TopGap(TokenStat):
    """:func:`top_gap`."""

    name: str = "top_gap"

    def compute(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        return top_gap(logits_NV)


def measured(proposed: ProposedStep) -> dict[str, float]:
    """tau, rho and r = tau / rho of a step."""
    rho = radius(proposed.spread())
    return {
        "softmax_radius/length": proposed.length,
        "softmax_radius/rho": rho,
        "softmax_radius/ratio": proposed.length / rho,
    }


@diagnostic("softmax-radius")
@dataclass(frozen=True)
class RadiusDiagnostic(Diagnostic):
    """How long the optimiser's steps are beside the softmax's convergence radius; two passes more a step.

    Logs ``softmax_radius/length`` (tau), ``softmax_radius/rho`` and ``softmax_radius/ratio`` (tau / rho), the
    means over a step's updates.
    """

    needs_proposal = True

    def __call__(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        return {}

    def of_step(self, proposed: ProposedStep) -> Mapping[str, float]:
        return measured(proposed)


@dataclass(frozen=True)
class RadiusStep(StepSize):
    """s above; the learning rate is the run's."""

    target: float
    rule: str

    needs_proposal = True
    minibatch_scope = False

    def __call__(self, batch: Batch, current: Stats) -> Out[float]:
        return Out(1.0)

    def shorten(self, proposed: ProposedStep) -> Out[float]:
        seen = measured(proposed)
        scale = step_scale(proposed.length, seen["softmax_radius/rho"], self.target, self.rule)
        return Out(scale, {**seen, "softmax_radius/scale": scale})


@dataclass(frozen=True)
class OutputProxy(StepSize):
    """The learning rate times clip(rho_out, ``floor``, 1), from the logits before the update."""

    proxy: str
    floor: float = 0.01

    @property
    def stat(self) -> TokenStat:
        return TopGap() if self.proxy == "top2" else LogitSpread()

    @property
    def current_stats(self) -> tuple[TokenStat, ...]:  # type: ignore[override]
        return (self.stat,)

    def __call__(self, batch: Batch, current: Stats) -> Out[float]:
        rho = output_radius(current[self.stat.name][batch.mask_BT].double(), self.proxy)
        multiplier = min(1.0, max(self.floor, rho))
        return Out(multiplier, {"softmax_radius/rho_out": rho, "softmax_radius/multiplier": multiplier})


@register("softmax-radius")
@dataclass(frozen=True)
class SoftmaxRadius(Method):
    """GRPO whose steps are held within the softmax's convergence radius."""

    rule: str = hp("cap", "what the radius does to the step", choices=RULES)
    target: float = hp(1.0, "r, the step's length in radii at most (cap) or exactly (set)", gt=0)
    proxy: str = hp("mean", "what output-proxy takes of the logits", choices=PROXIES)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)

    def validate(self, run: RunConfig) -> None:
        if self.rule == "output-proxy" and self.target != 1.0:
            raise UserError("method.target has no effect with method.rule=output-proxy; leave it out")
        if self.rule != "output-proxy" and self.proxy != "mean":
            raise UserError(
                f"method.proxy has no effect with method.rule={self.rule}; leave it out, or write "
                "method.rule=output-proxy"
            )
        if self.rule != "output-proxy" and run.model.dtype not in ("float32", "float64"):
            raise UserError(
                f"the radius is measured by differences of logits, which {run.model.dtype} is too coarse "
                "for; use model.dtype=float32"
            )

    def stages(self) -> Stages:
        step = OutputProxy(self.proxy) if self.rule == "output-proxy" else RadiusStep(self.target, self.rule)
        bounds = FixedBounds(self.eps_low, self.eps_high)
        return grpo_stages().with_(loss=PolicyLoss(bounds=bounds), step_size=step)
