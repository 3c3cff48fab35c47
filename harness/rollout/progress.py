"""How far a run is: what it has used, what stages know about a step, and where a step's time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from harness.config.schema import RunConfig
from harness.model.out_of_memory import naming_memory
from harness.model.policy import Policy
from harness.rollout.settings import context_of
from harness.stages.base import StepContext
from harness.util.progress import phase

#: Stages of a step as a status calls them, where that is not their name in the timings.
_CALLED = {"old": "old pass"}


@dataclass
class Counters:
    """What a run has used so far; reported beside every score. A trainer and its stages share one.

    ``updates_before`` are the optimiser steps of the phase before this one, on demonstrations.
    """

    step: int = 0
    updates: int = 0
    generated_tokens: int = 0
    train_tokens: int = 0
    updates_before: int = 0
    extra_forward_tokens: int = 0
    verifier_calls: int = 0

    def spent(self, run: RunConfig) -> bool:
        """Whether the budget of generated tokens is used up, if there is one."""
        budget = run.train.token_budget
        return budget is not None and self.generated_tokens >= budget

    def restore(self, values: Mapping[str, int]) -> None:
        """Take over the counters of a checkpoint, in place."""
        vars(self).update(vars(Counters(**values)))


def step_context(run: RunConfig, policy: Policy, counters: Counters, step: int | None = None) -> StepContext:
    """What stages know about ``step``, by default the one at work; those on demonstrations do not count."""
    step = counters.step - run.sft.steps if step is None else step
    budget = run.train.token_budget
    used = counters.generated_tokens / budget if budget else step / run.train.steps
    started = used if budget else (step - 1) / run.train.steps
    return StepContext(
        step=step, fraction=min(used, 1.0), total_steps=run.train.steps, seed=run.seed,
        prompts_per_step=run.rollout.prompts_per_step, group_size=run.rollout.group_size,
        max_response_tokens=run.rollout.max_response_tokens, temperature=run.rollout.temperature,
        minibatches=run.train.minibatches, epochs=run.train.epochs, eos_id=policy.eos_id,
        started=min(started, 1.0), decode=policy.decode, pieces=policy.pieces,
        context=context_of(run, policy.max_positions), encode=policy.encode_inside, chat=policy.chat,
    )  # fmt: skip


class Clock:
    """Times the stages of a step, and has the one named in which memory ends.

    Attributes:
        seconds: of the step at work, or the last one, by stage.
    """

    def __init__(self, run: RunConfig) -> None:
        self._run = run
        self.seconds: dict[str, float] = {}

    def begin_step(self) -> None:
        self.seconds = {}

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """Work of ``stage``; its seconds are added to those it has taken in this step."""
        start = time.perf_counter()
        with naming_memory(self._run, stage), phase(_CALLED.get(stage, stage)):
            yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
