r"""REPO-R: advantages rescaled by the token's own log-prob, to hold an entropy (arXiv 2603.11682).

Entropy falls as far as advantage and log-prob go together, so a multiple of |A| log p is taken off:

    l = max(logp, -20)                       logp the CURRENT policy's, a constant of the update
    A > 0:  A' = max(0, A (1 - zeta l))      rare right tokens count more
    A < 0:  A' = min(0, A (1 + zeta l))      rare wrong ones less
    l_t = max(-A' r, -A' clip(r, 1 - eps_low, 1 + eps_high))

zeta > 0 raises entropy, zeta < 0 lowers it. After each step zeta doubles while it pushes the entropy H to
the target H*; else it halves, and changes its sign instead of becoming smaller than zeta_min:

    H > H*:  zeta >= 0: zeta / 2, or -zeta_min if that is below zeta_min;  zeta < 0: max(-zeta_max, 2 zeta)
    H < H*:  zeta > 0: min(zeta_max, 2 zeta);  zeta = 0: zeta_min;
             zeta < 0: zeta / 2, or zeta_min if that is above -zeta_min

H is the mean over the step's optimiser steps of their token-mean entropy, under the policy as it moves.
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
    Component,
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    RunConfig,
    Signals,
    Stages,
    Stats,
    StepContext,
    TokenCredit,
    UserError,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

TARGETS = ("value", "initial", "none")


def rescaled(advantage_BT: Tensor, logp_BT: Tensor, zeta: float, floor: float = -20.0) -> Tensor:
    """A', ``[B,T]``; the sign of A stays, or A' is 0."""
    pull = zeta * logp_BT.clamp(min=floor)
    up = (advantage_BT * (1 - pull)).clamp(min=0)
    down = (advantage_BT * (1 + pull)).clamp(max=0)
    return torch.where(advantage_BT > 0, up, down)


def next_zeta(zeta: float, entropy: float, target: float, zeta_min: float, zeta_max: float) -> float:
    """zeta after a step of this entropy (nats)."""
    if entropy > target:
        if zeta < 0:
            return max(-zeta_max, 2 * zeta)
        return zeta / 2 if zeta / 2 >= zeta_min else -zeta_min
    if entropy < target:
        if zeta > 0:
            return min(zeta_max, 2 * zeta)
        return zeta / 2 if zeta / 2 <= -zeta_min else zeta_min
    return zeta


class ZetaController(Component):
    """zeta, and the target once it is known; ``target=None`` takes the entropy of the first step."""

    def __init__(self, zeta: float, target: float | None, zeta_min: float, zeta_max: float) -> None:
        self.zeta, self.target, self.zeta_min, self.zeta_max = zeta, target, zeta_min, zeta_max
        self._seen: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        return {"zeta": self.zeta, "target": self.target}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.zeta, self.target = float(state["zeta"]), state["target"]

    def begin_step(self, ctx: StepContext) -> None:
        self._seen = []

    def after_minibatch(self, entropy: float, ctx: StepContext) -> None:
        self._seen.append(entropy)

    def after_update(self, signals: Signals, ctx: StepContext) -> Mapping[str, float]:
        return self.observe(sum(self._seen) / len(self._seen)) if self._seen else {}

    def observe(self, entropy: float) -> dict[str, float]:
        """Move zeta by a step's entropy; what to log."""
        self.target = entropy if self.target is None else self.target
        self.zeta = next_zeta(self.zeta, entropy, self.target, self.zeta_min, self.zeta_max)
        return {
            "repo_r/zeta": self.zeta,
            "repo_r/target": self.target,
            "target_error": abs(entropy - self.target),
            "target_above": float(entropy > self.target),
        }


@dataclass(frozen=True)
class RescaledCredit(TokenCredit):
    """A' of each token; zeta is the controller's, or a number."""

    zeta: ZetaController | float
    floor: float = -20.0

    current_stats = (LOGP,)

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        zeta = self.zeta.zeta if isinstance(self.zeta, ZetaController) else self.zeta
        logp = current["logp"]
        return Out(rescaled(batch.advantages().to(logp.dtype), logp, zeta, self.floor))


@register("repo-r")
@dataclass(frozen=True)
class RepoR(Method):
    """GRPO whose advantages are stretched by the token's surprisal, as far as a controller says."""

    zeta: float = hp(1e-3, "coefficient on |A| logp at the start")
    target: str = hp("value", "what H* is: target_entropy, the first step's, or no control", choices=TARGETS)
    target_entropy: float = hp(0.3, "H* of target=value, nats per token", gt=0)
    zeta_min: float = hp(1e-4, "smallest |zeta| of the controller", gt=0)
    zeta_max: float = hp(0.05, "largest |zeta| of the controller", gt=0)
    logp_floor: float = hp(-20.0, "log-probs below it count as it, nats", le=0)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.28, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(None, "cap on -A' r for A < 0; null is off", gt=1)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if self.target == "none":
            return
        if self.zeta_min > self.zeta_max:
            raise UserError("method.zeta_min exceeds method.zeta_max; lower zeta_min")
        if abs(self.zeta) > self.zeta_max:
            raise UserError("method.zeta starts outside +-method.zeta_max; lower zeta or raise zeta_max")

    def stages(self) -> Stages:
        zeta: ZetaController | float = self.zeta
        components: dict[str, Component] = {}
        if self.target != "none":
            target = self.target_entropy if self.target == "value" else None
            zeta = ZetaController(self.zeta, target, self.zeta_min, self.zeta_max)
            components["repo_r"] = zeta
        loss = PolicyLoss(
            bounds=FixedBounds(self.eps_low, self.eps_high),
            credit=RescaledCredit(zeta, self.logp_floor),
            dual_clip=self.dual_clip,
            aggregation=self.aggregation,
        )
        return grpo_stages().with_(loss=loss, components=components)
