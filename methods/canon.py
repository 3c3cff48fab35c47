r"""CANON: conditional advantage estimation (arXiv 2509.23962).

The rollouts of a prompt are sorted by a metric and cut into two halves, the upper one larger by one where
their number is odd. Baselines are the mean of the other half (inter) and of the own half (intra):

    A_i = mu (R'_i - b'_other + beta or - beta) + (1 - mu) (R_i - b_own)      + beta in the upper half

R' is the reward, times alpha in one half: the lower one for the metrics entropy and random, the upper (long)
one for length; b' is the mean of R'. Which half is better is thus learnt, not imposed. mu is constant, or

    anneal       mean reward of the batch
    intra-first  1 - c(step; 0.6, 0)          inter-first   c(step; 1, 0.4)

    c(step; peak, floor): a linear rise to the peak in the warm-up, then cosine cycles from peak to floor.
The loss sums over a response's tokens and divides by the response budget (Dr. GRPO's reduction).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    ENTROPY,
    Advantage,
    Batch,
    ClippedMethod,
    Out,
    RunConfig,
    Stages,
    StepContext,
    TokenRatio,
    UserError,
    grpo_stages,
    hp,
    per_group,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

METRICS = ("entropy", "length", "random")
SCHEDULES = ("constant", "anneal", "intra-first", "inter-first")


def conditional_advantage(
    reward_n: Tensor,
    metric_n: Tensor,
    mu: float,
    alpha: float = 1.0,
    beta: float = 0.0,
    *,
    long: bool = False,
) -> Tensor:
    """A of one group, ``[n]``; ``long`` puts alpha on the upper half. Equal metrics keep their order."""
    n = len(reward_n)
    upper = torch.zeros(n, dtype=torch.bool)
    upper[metric_n.argsort(stable=True)[n // 2 :]] = True
    scaled_n = torch.where(upper == long, alpha * reward_n, reward_n)
    if n == 1:
        return mu * (scaled_n + beta) + (1 - mu) * reward_n
    other = torch.where(upper, scaled_n[~upper].mean(), scaled_n[upper].mean())
    own = torch.where(upper, reward_n[upper].mean(), reward_n[~upper].mean())
    offset = beta * (2 * upper.to(reward_n.dtype) - 1)
    return mu * (scaled_n - other + offset) + (1 - mu) * (reward_n - own)


def cosine_cycles(
    step: int, peak: float, floor: float, total: int = 150, warmup: int = 30, cycles: int = 3
) -> float:
    """c: the floor is ignored in the warm-up, and cycles go on after ``total`` steps."""
    if step < warmup:
        return peak * (step + 1) / warmup
    length = (total - warmup) // cycles
    return floor + (peak - floor) / 2 * (1 + math.cos(math.pi * ((step - warmup) % length) / length))


def scheduled_mu(schedule: str, mu: float, step: int, mean_reward: float, *cycle: int) -> float:
    """mu at a step; ``cycle`` are total, warmup and cycles of :func:`cosine_cycles`."""
    if schedule == "anneal":
        return mean_reward
    if schedule == "intra-first":
        return 1 - cosine_cycles(step, 0.6, 0.0, *cycle)
    return cosine_cycles(step, 1.0, 0.4, *cycle) if schedule == "inter-first" else mu


@dataclass(frozen=True)
class Conditional(Advantage):
    """The reward less the means of both halves of its group."""

    metric: str
    schedule: str
    mu: float
    alpha: float
    beta: float
    cycle: tuple[int, int, int]

    old_stats = (ENTROPY,)

    def metric_of(self, batch: Batch) -> Tensor:
        """What rows are sorted by, ``[B]``."""
        if self.metric == "length":
            return batch.length_B.double()
        if self.metric == "random":
            return torch.arange(len(batch)).double()
        entropy = torch.where(batch.mask_BT, batch.old["entropy"], 0.0)
        return entropy.sum(1) / batch.length_B.clamp(min=1)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        reward, long = batch.rewards(), self.metric == "length"
        mean = float(reward.double().mean())
        if self.schedule == "anneal" and not 0 <= mean <= 1:
            raise UserError(
                f"canon's schedule=anneal takes the mean reward as mu, and this step's is {mean:g}; leave "
                "the reward stage as it is, which gives 0 and 1, or take another method.schedule"
            )
        mu = scheduled_mu(self.schedule, self.mu, ctx.step, mean, *self.cycle)

        def formula(reward_n: Tensor, metric_n: Tensor) -> Tensor:
            return conditional_advantage(reward_n, metric_n, mu, self.alpha, self.beta, long=long)

        return Out(per_group(formula, batch.group_B, reward, self.metric_of(batch)), {"canon/mu": mu})


@register("canon")
@dataclass(frozen=True)
class CANON(ClippedMethod):
    """Dr. GRPO with the halves of a group, by entropy or length, as each other's baselines."""

    eps_high: float = hp(0.28, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp(
        "all-seq-mean-token-sum-norm", "reduction of the token losses", choices=AGGREGATIONS
    )
    metric: str = hp("entropy", "what a group is halved by", choices=METRICS)
    schedule: str = hp("constant", "how mu moves over the run", choices=SCHEDULES)
    mu: float = hp(1.0, "weight of the other half's mean, where it is constant", ge=0, le=1)
    alpha: float = hp(1.0, "factor on the rewards of the low-entropy or of the long half", ge=0)
    beta: float = hp(0.0, "added to the upper half, taken from the lower one, in units of reward")
    schedule_steps: int = hp(150, "steps of the cosine schedules", ge=1)
    schedule_warmup: int = hp(30, "of these the warm-up", ge=0)
    schedule_cycles: int = hp(3, "cycles after it", ge=1)

    def validate(self, run: RunConfig) -> None:
        if self.schedule_steps - self.schedule_warmup < self.schedule_cycles:
            raise UserError(
                f"{self.schedule_cycles} cycles do not fit into method.schedule_steps={self.schedule_steps} "
                f"after a warm-up of {self.schedule_warmup}; raise method.schedule_steps"
            )

    def stages(self) -> Stages:
        cycle = (self.schedule_steps, self.schedule_warmup, self.schedule_cycles)
        credit = Conditional(self.metric, self.schedule, self.mu, self.alpha, self.beta, cycle)
        return grpo_stages().with_(advantage=credit, loss=self.clipped_loss(TokenRatio(None)))
