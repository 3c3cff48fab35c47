r"""AEPO: arbitrary entropy policy optimisation (arXiv 2510.08141).

The entropy bonus becomes a small REINFORCE term on correct answers sampled at another temperature T_x,
chosen by a switch on the measured entropy h of the step before (0 at the start), with target H_0:

    T_x = T_high if h <= H_0 else T_low                    (hot samples raise entropy, cold ones lower it)
    kept = tempered rows with GRPO advantage > 0.05, A := 1
    m = min(m_0, |kept|), halved (floor) if h > H_0
    train on kept[:m] followed by the normal rows m ..           (the batch size stays the same)
    h <- token mean of -log pi of the trained tokens during the update

All rows pass the same PPO clip; old log-probs of tempered rows are those of the policy at the loss
temperature, so their ratio starts at 1 without a correction for the tempered sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from entrobench import (
    AGGREGATIONS,
    Batch,
    Component,
    Draw,
    FixedBounds,
    Generate,
    Method,
    Out,
    PolicyLoss,
    Program,
    Prompt,
    RolloutProgram,
    RunConfig,
    Selection,
    Signals,
    Stages,
    StepContext,
    UserError,
    Verify,
    concat,
    grpo_stages,
    hp,
    register,
    share_of,
)

if TYPE_CHECKING:
    from torch import Tensor


def extra_temperature(h: float, target: float, high: float, low: float) -> float:
    """T_x: hot while the entropy is at or below the target, cold above."""
    return high if h <= target else low


def kept_rows(advantage_B: Tensor, threshold: float = 0.05) -> Tensor:
    """Indices of the tempered rows that may train, in their order."""
    return (advantage_B > threshold).nonzero().flatten()


def controller_count(m0: int, n_kept: int, h: float, target: float) -> int:
    """m: tempered rows that train; half as many above the target."""
    m = min(m0, n_kept)
    return m // 2 if h > target else m


class EntropyState(Component):
    """h, the sampled-token entropy estimate of the last update (nats)."""

    def __init__(self, target: float) -> None:
        self.h, self.target = 0.0, target

    def state_dict(self) -> dict[str, Any]:
        return {"h": self.h}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.h = float(state["h"])

    def after_update(self, signals: Signals, ctx: StepContext) -> Mapping[str, float]:
        self.h = signals.update_nll
        return {
            "entropy_state/h": self.h,
            "target_error": abs(self.h - self.target),
            "target_above": float(self.h > self.target),
        }


@dataclass(frozen=True)
class TemperedRollout(RolloutProgram):
    """The plain rollouts, then ``group_size`` more at T_x for the first prompts, as groups of their own."""

    state: EntropyState
    high: float
    low: float
    extra_share: float

    engine_needs = frozenset({"temperature"})
    writes_tags = frozenset({"tempered", "extra"})

    def run(self, ctx: StepContext) -> Program:
        temperature = extra_temperature(self.state.h, self.state.target, self.high, self.low)
        problems = yield Draw(ctx.prompts_per_step)
        normal = yield Generate([Prompt(p, i) for i, p in enumerate(problems)], ctx.group_size)
        again = problems[: int(share_of(len(problems), self.extra_share))]
        prompts = [Prompt(p, len(problems) + i, stream=1) for i, p in enumerate(again)]
        extra = yield Generate(prompts, ctx.group_size, temperature=temperature)
        hot = torch.ones(len(extra))
        return (yield Verify(concat([normal, extra.with_tags(tempered=hot, extra=hot)])))


@dataclass(frozen=True)
class MixTempered(Selection):
    """Puts m good tempered rows, with advantage 1, in the place of the first m normal rows."""

    state: EntropyState
    reinforce_share: float
    threshold: float

    reads_tags = frozenset({"tempered"})

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        tempered = batch.tags["tempered"] > 0
        normal_rows, extra_rows = (~tempered).nonzero().flatten(), tempered.nonzero().flatten()
        # A rollout has one advantage on all its tokens; every response has a first token.
        kept = extra_rows[kept_rows(batch.advantages()[extra_rows, 0], self.threshold)]
        # m_0 is a number of rows in the official code; the share stands for it at other sizes
        m0 = round(self.reinforce_share * len(normal_rows))
        m = controller_count(m0, len(kept), self.state.h, self.state.target)
        mixed = batch.rows(torch.cat([kept[:m], normal_rows[m:]]))
        advantage = mixed.advantages().clone()
        advantage[:m] = mixed.mask_BT[:m].to(advantage.dtype)
        return Out(
            mixed.with_(advantage_BT=advantage),
            {"aepo/tempered_rows": float(m), "aepo/kept": float(len(kept))},
        )


@register("aepo")
@dataclass(frozen=True)
class AEPO(Method):
    """GRPO plus a few tempered REINFORCE rows that steer the entropy to a target."""

    entropy_target: float = hp(0.5, "H_0, nats per token", gt=0)
    t_high: float = hp(1.2, "sampling temperature that raises entropy", gt=0)
    t_low: float = hp(0.8, "sampling temperature that lowers entropy", gt=0)
    reinforce_share: float = hp(60 / 2560, "m_0 as a share of the normal rows", ge=0, lt=1)
    extra_share: float = hp(0.25, "share of the prompts that are sampled again", gt=0, le=1)
    threshold: float = hp(0.05, "advantage above which a tempered row is kept")
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        rows, base = run.rollout.prompts_per_step * run.rollout.group_size, run.rollout.temperature
        if not self.t_low < base < self.t_high:
            raise UserError(
                f"method.t_low < rollout.temperature={base:g} < method.t_high must hold; move t_low or t_high"
            )
        if int(share_of(run.rollout.prompts_per_step, self.extra_share, least=0)) < 1:
            raise UserError(
                "method.extra_share leaves no prompt to sample again; raise it or rollout.prompts_per_step"
            )
        if self.reinforce_share and not round(self.reinforce_share * rows):
            raise UserError(
                f"method.reinforce_share of {rows} rollouts is no row; raise it or rollout.group_size"
            )

    def stages(self) -> Stages:
        state = EntropyState(self.entropy_target)
        return grpo_stages().with_(
            rollout=TemperedRollout(state, self.t_high, self.t_low, self.extra_share),
            selection=MixTempered(state, self.reinforce_share, self.threshold),
            loss=PolicyLoss(
                bounds=FixedBounds(self.eps_low, self.eps_high),
                dual_clip=self.dual_clip,
                aggregation=self.aggregation,
            ),
            components={"aepo": state},
        )
