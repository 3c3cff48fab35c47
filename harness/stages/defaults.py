"""The plain form of every stage: together they are GRPO (arXiv 2402.03300)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.problems.problem import Problem
from harness.stages.base import (
    Advantage,
    GroupFilter,
    Minibatch,
    Out,
    PromptSource,
    Reward,
    RolloutProgram,
    Selection,
    Stages,
    StepContext,
    UpdatePlan,
)
from harness.stages.batch import Batch
from harness.stages.loss import PolicyLoss
from harness.stages.requests import Draw, Generate, Program, Prompt, Verify

if TYPE_CHECKING:
    from torch import Tensor


class ShuffledPrompts(PromptSource):
    """Every problem once per pass, in an order drawn afresh for each pass from the run's seed."""

    def __init__(self) -> None:
        self.drawn = 0
        self._problems: Sequence[Problem] = ()
        self._seed = 0
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def bind(self, problems: Sequence[Problem], seed: int) -> None:
        if not problems:
            raise ValueError("the training split is empty; choose another with data.train_split=…")
        self._problems, self._seed = problems, seed

    def draw(self, n: int) -> list[Problem]:
        first, self.drawn = self.drawn, self.drawn + n
        return [self._at(position) for position in range(first, first + n)]

    def _at(self, position: int) -> Problem:
        epoch, offset = divmod(position, len(self._problems))
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self._seed, epoch]).permutation(len(self._problems)))
        return self._problems[int(self._order[1][offset])]

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.drawn = int(state["drawn"])


@dataclass(frozen=True)
class PlainRollout(RolloutProgram):
    """One pass: the step's prompts, ``group_size`` responses each, at the run's temperature."""

    def run(self, ctx: StepContext) -> Program:
        problems = yield Draw(ctx.prompts_per_step)
        prompts = [Prompt(problem, group) for group, problem in enumerate(problems)]
        batch = yield Generate(prompts, ctx.group_size)
        return (yield Verify(batch))


@dataclass(frozen=True)
class VerdictReward(Reward):
    """``right`` for a correct response, ``wrong`` for any other."""

    right: float = 1.0
    wrong: float = 0.0

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        return Out(self.wrong + (self.right - self.wrong) * batch.correct_B)


@dataclass(frozen=True)
class KeepAll(GroupFilter):
    """Every group stays."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        return Out(torch.ones(len(batch), dtype=torch.bool))


def group_mean_std(value_B: Tensor, group_B: Tensor, *, ddof: int = 1) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each row's group, ``[B]`` each.

    A group of one row has mean 0 and std 1, as in verl, so that it keeps its value. That is the only
    convention for what has no other row to be compared with: of a group, or of a whole batch.
    """
    _, index_B = torch.unique(group_B, return_inverse=True)
    n_groups = int(index_B.max()) + 1 if len(index_B) else 0
    value = value_B.double()  # the mean of equal values must be that value, whatever the group's size
    zeros = torch.zeros(n_groups, dtype=value.dtype)
    count = zeros.index_add(0, index_B, torch.ones_like(value))
    mean = zeros.index_add(0, index_B, value) / count
    squares = zeros.index_add(0, index_B, (value - mean[index_B]) ** 2)
    std = (squares / (count - ddof).clamp(min=1)).sqrt()
    single = count == 1
    mean = torch.where(single, torch.zeros_like(mean), mean)
    std = torch.where(single, torch.ones_like(std), std)
    return mean[index_B].to(value_B.dtype), std[index_B].to(value_B.dtype)


def group_normalised(
    reward_B: Tensor, group_B: Tensor, *, eps: float = 1e-6, scale: str = "group", ddof: int = 1
) -> Tensor:
    """GRPO advantage ``(R - mean_group) / (std + eps)``, ``[B]``.

    Args:
        scale: ``group`` (std of the group), ``batch`` (std over all rows, mean still per group) or ``none``.
        ddof: 1 for the sample standard deviation used by verl and TRL.

    An all-equal group gets 0 exactly.
    """
    mean, std = group_mean_std(reward_B, group_B, ddof=ddof)
    if scale == "none":
        return reward_B - mean
    if scale == "batch":
        _, std = group_mean_std(reward_B, torch.zeros_like(group_B), ddof=ddof)
    elif scale != "group":
        raise ValueError(f"unknown scale '{scale}'; choose group, batch or none")
    return (reward_B - mean) / (std + eps)


@dataclass(frozen=True)
class GroupAdvantage(Advantage):
    """GRPO's group-standardised outcome reward on every token."""

    scale: str = "group"
    eps: float = 1e-6

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        return Out(group_normalised(batch.rewards(), batch.group_B, eps=self.eps, scale=self.scale))


@dataclass(frozen=True)
class SelectAll(Selection):
    """Every row and token trains."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        return Out(batch)


@dataclass(frozen=True)
class ShuffledMinibatches(UpdatePlan):
    """``epochs`` passes over the rows, each shuffled and cut into ``minibatches`` parts of nearly equal size.

    ``None`` takes the run's setting. ``by_group`` keeps the rows of a group in one minibatch, so that they
    share their prompt's pass; by default where there are as many groups as minibatches.
    """

    minibatches: int | None = None
    epochs: int | None = None
    by_group: bool | None = None

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[list[Minibatch]]:
        plan: list[Minibatch] = []
        groups = torch.unique(batch.group_B)
        parts = self.minibatches or ctx.minibatches
        by_group = len(groups) >= parts if self.by_group is None else self.by_group
        units = groups if by_group else torch.arange(len(batch))
        parts = min(parts, len(units))
        for epoch in range(self.epochs or ctx.epochs):
            order = units[torch.randperm(len(units), generator=ctx.generator("minibatches", epoch))]
            for part in order.tensor_split(max(parts, 1)):
                rows = torch.isin(batch.group_B, part).nonzero().flatten() if by_group else part
                plan.append(Minibatch(batch.rows(rows).trimmed()))
        return Out(plan)


def grpo_stages() -> Stages:
    """GRPO at every stage; methods change what they change with ``with_``."""
    return Stages(
        prompts=ShuffledPrompts(),
        rollout=PlainRollout(),
        reward=VerdictReward(),
        group_filter=KeepAll(),
        advantage=GroupAdvantage(),
        selection=SelectAll(),
        plan=ShuffledMinibatches(),
        loss=PolicyLoss(),
    )
