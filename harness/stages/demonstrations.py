"""Fine-tuning on demonstrations: rows that somebody wrote take the place of rollouts.

A fine-tuning method is a :class:`~harness.stages.method.FineTuning` with the stages of :func:`demonstrated`.
A step trains on as many demonstrations as the run's settings have rollouts in a step. Which demonstrations
there are and how they become tokens is the harness's (:mod:`harness.rollout.demonstrations`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from harness.stages.base import Advantage, Out, RolloutProgram, Stages, StepContext
from harness.stages.batch import Batch
from harness.stages.defaults import grpo_stages
from harness.stages.loss import FixedBounds, PolicyLoss
from harness.stages.requests import Demonstrate, Draw, Program

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DemonstrationRollout(RolloutProgram):
    """``prompts_per_step * group_size`` demonstrations, each of its own problem; nothing is generated."""

    needs_demonstrations = True
    writes_tags = Demonstrate.sets_tags

    def run(self, ctx: StepContext) -> Program:
        problems = yield Draw(ctx.prompts_per_step * ctx.group_size)
        return (yield Demonstrate(problems))


@dataclass(frozen=True)
class UnitAdvantage(Advantage):
    """1 on every token: a demonstration is to become likelier, whatever others there are."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        return Out(torch.ones(len(batch)))


def cross_entropy(aggregation: str = "token-mean") -> PolicyLoss:
    """``-logp`` of every token with advantage 1: a score without weights or bounds."""
    return PolicyLoss(
        bounds=FixedBounds(math.inf, math.inf), surrogate="score", aggregation=aggregation
    )  # fmt: skip


def all_demonstrated(batch: Batch) -> bool:
    """Whether every row is a demonstration, so that there is nothing of rollouts to log."""
    return "demonstration" in batch.tags and len(batch) > 0 and bool((batch.tags["demonstration"] > 0).all())


def demonstrated(loss: PolicyLoss) -> Stages:
    """GRPO's stages with demonstrations as rows, advantage 1 and ``loss``."""
    return grpo_stages().with_(rollout=DemonstrationRollout(), advantage=UnitAdvantage(), loss=loss)
