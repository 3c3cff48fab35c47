"""The rollout stage: the rollouts a step trains on, judged.

It carries out the method's rollout program, keeps what waits where rollouts have a lag
(:mod:`harness.rollout.queue`), and holds the sampler, which follows the policy's weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.config.schema import RunConfig
from harness.model.policy import Policy
from harness.problems.problem import Benchmark, Verdict, verify_all
from harness.rollout.demonstrations import Demonstrations
from harness.rollout.engine_sampler import EngineSampler, open_sampler
from harness.rollout.mixing import Mixing
from harness.rollout.progress import Clock, Counters, step_context
from harness.rollout.queue import RolloutQueue
from harness.rollout.roll_out import Sampler, judge_shared, roll_out
from harness.rollout.sampled import TAG
from harness.rollout.second_model import second_models
from harness.rollout.settings import context_of
from harness.stages.base import Component, Stages, StepContext
from harness.stages.batch import Batch, concat
from harness.stages.requests import Demonstrate, Draw, Generate, Score, Verify
from harness.stages.token_stats import TokenStat
from harness.util import progress
from harness.util.errors import UserError


class RolloutCollector:
    """From a step to its rollouts; every process of a run has one and gets the whole batch.

    Attributes:
        sampler: who draws; to be told when the policy's weights have changed (``outdated``).
    """

    def __init__(
        self, run: RunConfig, policy: Policy, benchmark: Benchmark, stages: Stages, *, counters: Counters,
        clock: Clock, old_stats: Callable[[], Sequence[TokenStat]] = tuple,
        demonstrations: Demonstrations | None = None,
    ) -> None:  # fmt: skip
        """Open the stage of a run; ``counters`` count what it draws, scores and has judged.

        Args:
            old_stats: what the sampler takes on the way (:mod:`harness.rollout.sampled`).
            demonstrations: those of the run, where its program asks for them.
        """
        self._demonstrations = demonstrations
        self._old_stats = old_stats
        self.sampler: Sampler = open_sampler(run, policy)
        self._run, self._policy, self._benchmark, self._stages = run, policy, benchmark, stages
        self._counters, self._clock = counters, clock
        self._waiting = RolloutQueue()
        self._seen: Counter[tuple[str, int, int]] = Counter()
        self._beside = second_models(run, policy, stages)

    @property
    def looks_by(self) -> EngineSampler | None:
        """The engine, if it draws for the probe and evaluations too: where its log-probs are those at T 1."""
        drawer = self.sampler
        return drawer if isinstance(drawer, EngineSampler) and self._run.rollout.temperature == 1 else None

    @property
    def waiting(self) -> int:
        """For how many steps rollouts wait."""
        return len(self._waiting)

    def components(self) -> dict[str, Component]:
        """What of the stage outlives a step, by its name in checkpoints."""
        return {"rollout_queue": self._waiting} if self._run.rollout.lag else {}

    def next(
        self, ctx: StepContext, old_pass: Callable[[Batch], Batch] | None = None
    ) -> tuple[Batch, dict[str, float]]:
        """The rollouts that step ``ctx`` trains on: new ones or, with a lag, the oldest; and metrics.

        Args:
            old_pass: taken of rollouts before they wait; None where it is taken later.
        """
        lag, queue, step = self._run.rollout.lag, self._waiting, ctx.step
        if not lag:
            return self._sampled(ctx), {}
        while len(queue) <= lag and not self._sampled_all(step):
            later = step_context(self._run, self._policy, self._counters, step + len(queue))
            batch = self._sampled(later)
            queue.put(step, old_pass(batch) if old_pass else batch)
        sampled_at, batch = queue.take()
        return batch, {"lag": float(step - sampled_at)}

    def _sampled_all(self, step: int) -> bool:
        """Whether rollouts wait for every step that is left, ``step`` being the first."""
        over = step - 1 + self.waiting >= self._run.train.steps
        return over or (self.waiting > 0 and self._counters.spent(self._run))

    def _sampled(self, ctx: StepContext) -> Batch:
        with self._clock.at("rollout"):
            batch = self.run_program(ctx)
            self.sampler.rest()
        return batch

    def run_program(self, ctx: StepContext) -> Batch:
        """The judged rollouts of the method's program for step ``ctx``; its requests are answered here.

        Raises:
            TypeError: the program yields something else than a request.
        """
        self._seen.clear()
        program = self._stages.rollout.run(ctx)
        answer: Any = None
        while True:
            try:
                request = program.send(answer)
            except StopIteration as stop:
                batch: Batch = stop.value
                return batch if batch.verdicts is not None else self._verify(Verify(batch), ctx)
            if isinstance(request, Draw):
                answer = self._stages.prompts.draw(request.n)
            elif isinstance(request, Demonstrate):
                if self._demonstrations is None:
                    raise ValueError("a program that asks for demonstrations sets needs_demonstrations")
                answer = self._demonstrations.batch(request.problems)
            elif isinstance(request, Generate):
                answer = self._generated(request, ctx)
            elif isinstance(request, Score):
                answer = self._score(request)
            elif isinstance(request, Verify):
                answer = self._verify(request, ctx)
            else:
                raise TypeError(f"a rollout program may not yield {type(request).__name__}")

    def _generated(self, request: Generate, ctx: StepContext) -> Batch:
        """The answer to a request: :meth:`generate`, in parts where prefixes leave little of the context."""
        parts = self._by_room(request)
        if len(parts) == 1:
            return self.generate(request, ctx)
        made = [
            self.generate(replace(request, prompts=[request.prompts[i] for i in part]), ctx) for part in parts
        ]
        drawn = torch.tensor([i for part in parts for i in part]).repeat_interleave(request.n)
        return concat(made).rows(drawn.argsort(stable=True))

    def _by_room(self, request: Generate) -> list[list[int]]:
        """The request's prompts by their token limits, where prefixes make them less than the request's.

        A draw has one limit, which its longest prefix would set for all: in a part nobody loses more than an
        eighth of the whole limit by that.
        """
        whole = self._whole_limit(request)
        if not any(p.prefix for p in request.prompts):
            return [list(range(len(request.prompts)))]
        parts: dict[int, list[int]] = {}
        for i, limit in enumerate(self._limits(request)):
            parts.setdefault(limit // max(whole // 8, 1), []).append(i)
        return list(parts.values())

    def _whole_limit(self, request: Generate) -> int:
        return request.max_tokens or self._run.rollout.max_response_tokens

    def _limits(self, request: Generate) -> list[int]:
        """Token limit of each prompt: what is asked for; less where the context leaves less behind a prefix
        or a new prompt.

        That the prompts of the set leave room is known before the first step.

        Raises:
            UserError: a prefix or a rewritten prompt leaves nothing.
        """
        prompts, whole = request.prompts, self._whole_limit(request)
        context = context_of(self._run, self._policy.max_positions)
        if context is None or not (request.max_tokens or any(p.prefix or p.rewritten for p in prompts)):
            return [whole] * len(prompts)
        taken = [len(self._policy.encode(p.problem.prompt)) + len(p.prefix) for p in prompts]
        if max(taken) >= context:
            raise UserError(
                f"a prompt with its prefix of {max(taken)} tokens fills the model's context of {context}; "
                "lower rollout.max_response_tokens"
            )
        return [min(whole, context - tokens) for tokens in taken]

    def generate(self, request: Generate, ctx: StepContext) -> Batch:
        """The responses of one request, unjudged, all with the limit of the one that has the least."""
        rollout, n = self._run.rollout, request.n
        keys = []
        for p in request.prompts:
            stream = (p.problem.id, p.stream, request.sample_offset)
            again = self._seen[stream]  # a problem that comes twice in a step must not get the same draws
            self._seen[stream] += 1
            samples = range(request.sample_offset, request.sample_offset + n)
            keys += [(ctx.seed, ctx.step, p.problem.id, p.stream, again, i) for i in samples]
        stats = [stat for stat in self._old_stats() if stat.on == "response" and stat.layer is None]
        mixture = request.mixture
        mixing = None if mixture is None else Mixing(self._beside[mixture.model], mixture.weight)
        with progress.phase("", len(keys), "responses"):
            batch = roll_out(
                self._policy, request.prompts, n, keys=keys, sample_offset=request.sample_offset,
                temperature=request.temperature or rollout.temperature,
                max_tokens=min(self._limits(request)), by=self.sampler,
                token_temperature=request.token_temperature, stats=stats, mixing=mixing,
            )  # fmt: skip
        if stats:
            batch = batch.with_tags(**{TAG: torch.full((len(batch),), float(self._counters.updates + 1))})
        self._counters.generated_tokens += int(batch.mask_BT.sum())
        if mixing is not None:  # the second model has seen every token, too
            self._counters.extra_forward_tokens += int(batch.mask_BT.sum())
        return batch

    def _score(self, request: Score) -> dict[str, Tensor]:
        train = self._run.train
        scores = self._policy.scores(
            request.batch, request.stats, train.micro_batch_rows, train.micro_batch_tokens
        )
        self._counters.extra_forward_tokens += int(request.batch.mask_BT.sum())
        return scores

    def _verify(self, request: Verify, ctx: StepContext) -> Batch:
        batch = request.batch
        verdicts = judge_shared(request.judge or partial(verify_all, self._benchmark), batch)
        if self._run.train.random_reward:
            coins = torch.rand(len(batch), generator=ctx.generator("coins", self._counters.verifier_calls))
            verdicts = tuple(
                Verdict("right" if coin < 0.5 else "wrong", v.canonical)
                for v, coin in zip(verdicts, coins.tolist(), strict=True)
            )
        self._counters.verifier_calls += len(verdicts)
        return batch.with_(verdicts=verdicts)
