r"""SIRI: scaling iterative reinforcement learning with interleaved compression (arXiv 2509.25176).

The token limit of the rollouts swings between L_min and L_max, in long cycles of T steps that begin with
compression. With phi = 2 pi (t mod T) / T, m the middle of the two and a half their distance:

    cosine        L(t) = m + a cos phi
    stair         L_min in the first half of a cycle, L_max in the second
    stair-cosine  L_max where phi < pi/4 or phi >= 7pi/4;  m + a cos(2 (phi - pi/4)) on [pi/4, 3pi/4);
                  L_min on [3pi/4, 5pi/4);                 m + a cos(2 (phi - 3pi/4)) on [5pi/4, 7pi/4)

Rollouts are drawn with the whole part of L(t) as their limit. A response that is cut off is judged by what it
says until there and trains like any other: that zero is the signal. Advantage and loss are GRPO's, with
eps_high 0.28 and no KL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    Batch,
    ClippedMethod,
    Draw,
    Generate,
    Out,
    Program,
    Prompt,
    RolloutProgram,
    RunConfig,
    Stages,
    StepContext,
    UserError,
    VerdictReward,
    Verify,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

SCHEDULES = ("cosine", "stair", "stair-cosine")


def limit_at(phase: float, low: float, high: float, schedule: str) -> float:
    """L, not rounded, at ``phase``, the number of cycles since the start (t / T)."""
    turn = phase % 1.0
    middle, half = (high + low) / 2, (high - low) / 2
    if schedule == "cosine":
        return middle + half * math.cos(2 * math.pi * turn)
    if schedule == "stair":
        return low if turn < 0.5 else high
    if schedule != "stair-cosine":
        raise ValueError(f"unknown schedule '{schedule}'; choose one of {', '.join(SCHEDULES)}")
    if turn < 1 / 8 or turn >= 7 / 8:
        return high
    if turn < 3 / 8:
        return middle + half * math.cos(4 * math.pi * (turn - 1 / 8))
    if turn < 5 / 8:
        return low
    return middle + half * math.cos(4 * math.pi * (turn - 3 / 8))


def tokens_at(phase: float, low: float, high: float, schedule: str) -> int:
    """The limit in tokens: the whole part of L; what only rounding keeps below a whole number is that."""
    return math.floor(limit_at(phase, low, high, schedule) + 1e-9)


def lowest(max_tokens: int, min_share: float) -> int:
    """L_min in tokens; at least 1."""
    return max(round(min_share * max_tokens), 1)


@dataclass(frozen=True)
class SwingingLimit(RolloutProgram):
    """The plain rollouts with the step's token limit."""

    schedule: str
    min_share: float
    cycles: float

    writes_tags = frozenset({"limit"})

    def limit(self, ctx: StepContext) -> int:
        """L of the step, tokens; ``rollout.max_response_tokens`` is L_max."""
        high = ctx.max_response_tokens
        return tokens_at(self.cycles * ctx.started, lowest(high, self.min_share), high, self.schedule)

    def run(self, ctx: StepContext) -> Program:
        problems = yield Draw(ctx.prompts_per_step)
        prompts = [Prompt(problem, group) for group, problem in enumerate(problems)]
        limit = self.limit(ctx)
        batch = yield Generate(prompts, ctx.group_size, max_tokens=limit)
        return (yield Verify(batch.with_tags(limit=torch.full((len(batch),), float(limit)))))


@dataclass(frozen=True)
class LimitedVerdict(VerdictReward):
    """The verdict on what was said within the limit; logs the limit that the rollouts were drawn with."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        out = super().__call__(batch, ctx)
        limit_B = batch.tags.get("limit")
        return out if limit_B is None else Out(out.value, {"siri/limit": float(limit_B.mean())})


@register("siri")
@dataclass(frozen=True)
class SIRI(ClippedMethod):
    """GRPO under a token limit that falls and rises again and again."""

    schedule: str = hp("cosine", "how the limit moves within a cycle", choices=SCHEDULES)
    min_share: float = hp(0.5, "L_min as a share of rollout.max_response_tokens (8192 / 16384)", gt=0, le=1)
    cycles: float = hp(3.0, "cycles in a run (3 of 640 steps)", gt=0)
    eps_high: float = hp(0.28, "ratio clip above 1", ge=0)
    aggregation: str = hp("seq-mean-token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        high = run.rollout.max_response_tokens
        if self.min_share < 1 and lowest(high, self.min_share) == high:
            raise UserError(
                f"method.min_share={self.min_share:g} of {high} tokens is all of them; lower it or raise "
                "rollout.max_response_tokens"
            )

    def stages(self) -> Stages:
        return grpo_stages().with_(
            rollout=SwingingLimit(self.schedule, self.min_share, self.cycles),
            reward=LimitedVerdict(),
            loss=self.clipped_loss(),
        )
