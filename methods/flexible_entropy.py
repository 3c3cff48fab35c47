r"""Flexible entropy control: clip thresholds that depend on a token's probability (arXiv 2602.09782).

    H(p) = alpha_high p + beta_high,   M(p) = alpha_low p + beta_low,   p = sg[pi(a_t | s_t)], CURRENT policy
    l_t = -min(r A, clip(r, 1 - E_minus, 1 + E_plus) A)

Loose thresholds for rare tokens, tight ones for frequent tokens; a wide upper threshold keeps gradients that
raise entropy, a wide lower one those that lower it. Which side is dynamic changes over the run, with
u = k / T (step k from 0, T steps) and lambda = 1 - 2 u:

             u <= 1/2: (E_plus, E_minus)              u > 1/2: (E_plus, E_minus)
    ID       (lambda H + (1 - lambda) eps, eps)       (eps, (1 + lambda) M - lambda eps)
    DID      (lambda eps + (1 - lambda) H, eps)       (H,   (1 + lambda) M - lambda eps)
    OD       (H, eps) while entropy is to rise, (eps, M) while it is to fall: it is to rise once the batch
             entropy is at most 0.2 H_init, and to fall once it exceeds 0.2 H_init + 0.8 H_init (1 - u)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from entrobench import (
    AGGREGATIONS,
    LOGP,
    Batch,
    Bounds,
    Component,
    Method,
    Out,
    PolicyLoss,
    RunConfig,
    Stages,
    Stats,
    StepContext,
    UserError,
    aggregate,
    grpo_stages,
    hp,
    refuse_single_update,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


def linear_threshold(p_BT: Tensor, alpha: float, beta: float) -> Tensor:
    """H(p) or M(p), ``[B,T]``."""
    return alpha * p_BT + beta


def thresholds(
    strategy: str, u: float, raising: bool, upper_BT: Tensor, lower_BT: Tensor, eps: float, split: float = 0.5
) -> tuple[Tensor, Tensor]:
    """(E_plus, E_minus), ``[B,T]`` each, of ``upper_BT`` = H(p) and ``lower_BT`` = M(p).

    ``split`` is the share of the run that the first phase takes; lambda runs from 1 to 0 in it, then to -1.
    """
    fixed = torch.full_like(upper_BT, eps)
    if strategy == "od":
        return (upper_BT, fixed) if raising else (fixed, lower_BT)
    if u <= split:
        mix = 1 - u / split
        weight = mix if strategy == "id" else 1 - mix
        return weight * upper_BT + (1 - weight) * eps, fixed
    mix = -(u - split) / (1 - split)
    return (fixed if strategy == "id" else upper_BT), (1 + mix) * lower_BT - mix * eps


def entropy_band(h_init: float, h_min_frac: float, u: float) -> tuple[float, float]:
    """(tau_low, tau_high) of OD at ``u``; tau_high falls from H_init to tau_low over the run."""
    low = h_min_frac * h_init
    return low, low + (h_init - low) * (1 - u)


def direction(raising: bool, entropy: float, tau_low: float, tau_high: float) -> bool:
    """OD's switch: True at or below ``tau_low``, False above ``tau_high``, unchanged between them."""
    return True if entropy <= tau_low else (False if entropy > tau_high else raising)


class Phase(Component):
    """Where the run stands (u) and, for OD, the first batch's entropy and which way entropy is to go."""

    def __init__(self, h_min_frac: float | None) -> None:
        self.h_min_frac = h_min_frac
        self.u, self.raising = 0.0, False
        self.h_init: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"u": self.u, "h_init": self.h_init, "raising": self.raising}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.u, self.h_init, self.raising = float(state["u"]), state["h_init"], bool(state["raising"])

    def begin_step(self, ctx: StepContext) -> None:
        self.u = ctx.started

    def observe(self, entropy: float) -> dict[str, float]:
        """Set the direction from this step's batch entropy (nats); what to log."""
        if self.h_min_frac is None:
            return {}
        self.h_init = entropy if self.h_init is None else self.h_init
        low, high = entropy_band(self.h_init, self.h_min_frac, self.u)
        self.raising = direction(self.raising, entropy, low, high)
        names = ("tau_low", "tau_high", "raising")
        return {f"flexible/{k}": float(v) for k, v in zip(names, (low, high, self.raising), strict=True)}

    def before_update(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        entropy = batch.old["entropy"]
        return self.observe(float(aggregate("token-mean", entropy, batch.mask_BT)))


@dataclass(frozen=True)
class ProbabilityBounds(Bounds):
    """Ratio bounds 1 - E_minus and 1 + E_plus of each token."""

    strategy: str
    phase: Phase
    alpha_high: float
    beta_high: float
    alpha_low: float
    beta_low: float
    eps: float
    split: float = 0.5

    current_stats = (LOGP,)

    def __call__(self, batch: Batch, current: Stats) -> Out[tuple[Tensor, Tensor]]:
        p = current["logp"].detach().double().exp()  # float64: alpha = 0 gives GRPO's bounds after rounding
        upper = linear_threshold(p, self.alpha_high, self.beta_high)
        lower = linear_threshold(p, self.alpha_low, self.beta_low)
        phase = self.phase
        plus, minus = thresholds(self.strategy, phase.u, phase.raising, upper, lower, self.eps, self.split)
        means = {"flexible/eps_high": plus, "flexible/eps_low": minus}
        metrics = {k: float(aggregate("token-mean", v, batch.mask_BT)) for k, v in means.items()}
        return Out((1 - minus, 1 + plus), metrics)


@dataclass(frozen=True)
class _FlexibleEntropy(Method):
    """GRPO with the thresholds above; the subclasses are the schedules."""

    alpha_high: float = hp(-0.25, "slope of the upper threshold H(p)")
    beta_high: float = hp(0.5, "upper threshold at p = 0", gt=0)
    alpha_low: float = hp(-0.13, "slope of the lower threshold M(p)")
    beta_low: float = hp(0.3, "lower threshold at p = 0", gt=0)
    eps: float = hp(0.2, "the side that is not dynamic", gt=0, lt=1)
    aggregation: str = hp("seq-mean-token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    strategy = "id"

    def validate(self, run: RunConfig) -> None:
        for side in ("high", "low"):
            if getattr(self, f"alpha_{side}") + getattr(self, f"beta_{side}") < 0:
                raise UserError(f"the threshold is negative at p = 1; raise method.beta_{side}")
        refuse_single_update(run, "every ratio at 1, so the thresholds do nothing")

    def stages(self) -> Stages:
        phase = Phase(getattr(self, "h_min_frac", None))
        bounds = ProbabilityBounds(
            self.strategy, phase, self.alpha_high, self.beta_high, self.alpha_low, self.beta_low, self.eps,
            getattr(self, "split", 0.5),
        )  # fmt: skip
        loss = PolicyLoss(bounds=bounds, aggregation=self.aggregation)
        return grpo_stages().with_(loss=loss, components={"flexible": phase})


@register("flexible-entropy@id")
@dataclass(frozen=True)
class IncreaseThenDecrease(_FlexibleEntropy):
    """First a wide upper threshold that closes, then a wide lower one that closes."""

    split: float = hp(0.5, "share of the run that the first phase takes", gt=0, lt=1)

    strategy = "id"


@register("flexible-entropy@did")
@dataclass(frozen=True)
class DecreaseIncreaseDecrease(_FlexibleEntropy):
    """First an upper threshold that opens and then stays wide, from there on a lower one that closes."""

    split: float = hp(0.5, "share of the run that the first phase takes", gt=0, lt=1)

    strategy = "did"


@register("flexible-entropy@od")
@dataclass(frozen=True)
class OscillatoryDecay(_FlexibleEntropy):
    """The wide side switches with the batch entropy, in a band that narrows over the run."""

    h_min_frac: float = hp(0.2, "lower edge of the band as a share of the first batch's entropy", gt=0, lt=1)

    strategy = "od"
