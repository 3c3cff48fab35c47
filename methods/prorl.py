r"""ProRL: prolonged reinforcement learning with reference resets (arXiv 2507.12507, 2505.24864).

    l_t  = max(-A r_t, -A clip(r_t, 1 - eps_low, 1 + eps_high)),   at most -dual_clip A where A < 0
    loss = mean over tokens of l_t + beta k3(logp, ref_logp)

with GRPO's advantage A, over the groups that are neither all right nor all wrong. After every ``reset_share``
of the run the reference becomes the current policy, and the optimiser starts afresh.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from entrobench import (
    Component,
    FixedBounds,
    Method,
    PolicyLoss,
    ReferenceKL,
    RunConfig,
    Signals,
    Stages,
    StepContext,
    UserError,
    grpo_stages,
    hp,
    register,
)
from methods.dapo import DynamicSampling, MixedGroups


def due(fraction: float, share: float) -> int:
    """Resets that are due once this fraction of the run is used; none at its very end."""
    return min(math.floor(fraction / share + 1e-9), math.ceil(1 / share - 1e-9) - 1)


class Resets(Component):
    """Counts the resets done, and asks for the next one after the step that reaches it."""

    may_reset = frozenset({"reference", "optimizer"})

    def __init__(self, share: float, optimizer: bool) -> None:
        self.share, self.optimizer, self.done = share, optimizer, 0
        self._now = False

    def after_update(self, signals: Signals, ctx: StepContext) -> Mapping[str, float]:
        wanted = due(ctx.fraction, self.share)
        self._now, self.done = wanted > self.done, max(wanted, self.done)
        return {"prorl/resets": float(self.done)}

    def resets(self) -> frozenset[str]:
        wanted, self._now = self._now, False
        if not wanted:
            return frozenset()
        return frozenset({"reference", "optimizer"} if self.optimizer else {"reference"})

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.done = int(state["done"])


@register("prorl")
@dataclass(frozen=True)
class ProRL(Method):
    """Wide upper clip, mixed groups, and a small KL to a reference that is replaced now and then."""

    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.4, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0 (verl's default); null is off", gt=1)
    kl_coef: float = hp(1e-4, "weight of the k3 KL to the reference; unverified", gt=0)
    reset_share: float = hp(0.12, "share of the run between resets (300 of about 2500 steps)", gt=0, le=1)
    reset_optimizer: bool = hp(True, "the optimiser's moments are dropped too")
    gen_factor: float = hp(1.0, "prompts of a generation round, in units of prompts_per_step", gt=0)
    max_gen_batches: int = hp(10, "generation rounds of a step at most", ge=1)

    def validate(self, run: RunConfig) -> None:
        if run.rollout.group_size < 2:
            raise UserError("dynamic sampling needs groups; use rollout.group_size >= 2")
        if due(1.0, self.reset_share) == 0:
            raise UserError(
                "method.reset_share=1 never resets the reference, which leaves DAPO with a KL; "
                "lower method.reset_share"
            )

    def stages(self) -> Stages:
        return grpo_stages().with_(
            rollout=DynamicSampling(self.gen_factor, self.max_gen_batches),
            group_filter=MixedGroups(),
            loss=PolicyLoss(
                bounds=FixedBounds(self.eps_low, self.eps_high),
                dual_clip=self.dual_clip,
                aggregation="token-mean",
            ),
            regularisers=(ReferenceKL(self.kl_coef, "k3", "token-mean"),),
            components={"resets": Resets(self.reset_share, self.reset_optimizer)},
        )
