"""The trainer: one straight line from prompts to controllers. A method is what stands at the stations."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from harness.batch import Batch
from harness.config import RunConfig
from harness.engines.sampling import EngineSampler, open_sampler
from harness.lag import RolloutQueue
from harness.logs import batch_metrics, quantiles, update_metrics
from harness.mismatch import alarm_text, mismatch_metrics, truncated_weights
from harness.oom import naming_memory
from harness.parallel import world
from harness.policy import Policy
from harness.problems import Benchmark, Verdict
from harness.processes import check_shardable
from harness.rollout_settings import check_stages, compares, corrects
from harness.rollouts import Sampler, roll_out, verify_shared
from harness.sharding import shared_state, whole, whole_state
from harness.stages import (
    Component,
    Draw,
    Generate,
    Minibatch,
    Score,
    Signals,
    Stages,
    StepContext,
    Verify,
    group_normalised,
)
from harness.stages.base import RESETS
from harness.tokenstats import ENTROPY, LOGP, TokenStat
from harness.update import UpdateLog, backward, with_parts


@dataclass
class Counters:
    """What a run has used so far; reported beside every score."""

    step: int = 0
    updates: int = 0
    generated_tokens: int = 0
    train_tokens: int = 0
    extra_forward_tokens: int = 0
    verifier_calls: int = 0


@dataclass
class Trainer:
    """State of a run and its step.

    Attributes:
        seconds: the last step's time per station.
        sizes: numbers of processes that steps were taken with.
    """

    run: RunConfig
    policy: Policy
    benchmark: Benchmark
    stages: Stages
    counters: Counters = field(default_factory=Counters)
    seconds: dict[str, float] = field(default_factory=dict)
    sizes: set[int] = field(default_factory=set)
    _reference_moved: bool = False
    _seen: Counter[tuple[str, int, int]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        train = self.run.train
        self._declared = self.stages.of_step()
        check_stages(self.run, self._declared)
        self.sampler: Sampler = open_sampler(self.run, self.policy)
        self._waiting = RolloutQueue()
        self._alarmed = False
        network = self.policy.network
        network.chunk_mib = train.logits_chunk_mib
        if self.run.model.compute_dtype != "same":
            network.compute_in(getattr(torch, self.run.model.compute_dtype))
        self.reference = self.policy.frozen_copy() if any(s.needs_reference for s in self._declared) else None
        if train.activation_checkpointing:
            network.recompute()
        self._check_resets()
        if world().size > 1:
            self._shard()
        network.ready()
        if self.reference is not None:
            self.reference.network.ready()
        self._parameters = network.trainable()
        self.optimizer = torch.optim.AdamW(
            self._parameters,
            lr=train.lr, betas=(train.beta1, train.beta2), weight_decay=train.weight_decay, fused=True,
        )  # fmt: skip
        self.stages.prompts.bind(self.benchmark.problems(self.run.data.train_split), self.run.seed)

    def _shard(self) -> None:
        check_shardable(self.run, self._declared)
        self.policy.network.shard()
        if self.reference is not None:
            self.reference.network.shard()

    # --- the step --------------------------------------------------------------------------------------

    def finished(self) -> bool:
        """True once the step limit or the budget of generated tokens is reached."""
        drained = len(self._waiting) == 0
        return self.counters.step >= self.run.train.steps or (drained and self._spent())

    def _spent(self) -> bool:
        budget = self.run.train.token_budget
        return budget is not None and self.counters.generated_tokens >= budget

    def step(self) -> dict[str, float]:
        """One training step; returns its metrics."""
        self.seconds = {}
        stages, metrics = self.stages, dict[str, float]()
        self.counters.step += 1
        self.sizes.add(world().size)
        ctx = self._context()
        for component in stages.all_components().values():
            component.begin_step(ctx)

        batch, waited = self._next_rollouts(ctx)
        with self._clock("rollout"):
            for component in stages.all_components().values():
                component.after_rollout(batch, ctx)
        metrics |= batch_metrics(batch) | waited
        # what plain GRPO would have done with these rollouts; only measured against, never trained on
        batch = batch.with_tags(
            grpo_advantage=group_normalised(batch.correct_B, batch.group_B), row=torch.arange(len(batch))
        )

        # as early as the first station that reads it, by default after the group filter: fewer rows
        early = [part for stage in (stages.reward, stages.group_filter) for part in with_parts(stage)]
        scored = self._scores_when_sampled
        old_pass_first = not scored and any(part.old_stats or part.needs_reference for part in early)
        if old_pass_first:
            batch = self._old_pass(batch)
        with self._clock("reward"):
            reward = stages.reward(batch, ctx)
            rewards = {"reward_B": reward.value} if reward.value.ndim == 1 else {
                "reward_BT": reward.value, "reward_B": (reward.value * batch.mask_BT).sum(1)
            }  # fmt: skip
            batch = batch.with_(**rewards)
            kept = stages.group_filter(batch, ctx)
            batch = batch.rows(kept.value)
        metrics |= {"kept_rows": float(len(batch)), **reward.metrics, **kept.metrics}
        if len(batch) == 0:  # nothing to learn from: every group was filtered out
            return metrics | {"skipped_update": 1.0} | self._usage()
        if not old_pass_first and not scored:
            batch = self._old_pass(batch)
        metrics |= update_metrics(batch)
        if compares(self.run):
            batch, compared = self._compared(batch)
            metrics |= compared

        with self._clock("advantage"):
            advantage = stages.advantage(batch, ctx)
            batch = batch.with_(advantage_BT=_over_tokens(advantage.value, batch.mask_BT))
            selection = stages.selection(batch, ctx)
            plan = stages.plan(selection.value, ctx)
        metrics |= {**advantage.metrics, **selection.metrics, **plan.metrics}
        for diagnostic in stages.diagnostics:
            metrics |= diagnostic(selection.value, ctx)
        metrics |= {
            "trained_rows": float(len(selection.value)),
            "reward": float(batch.rewards().float().mean()),
        }
        if not any(len(minibatch.batch) for minibatch in plan.value):
            return metrics | {"skipped_update": 1.0} | self._usage()

        for component in stages.all_components().values():
            metrics |= component.before_update(batch, ctx)
        log, norms = UpdateLog(), []
        with self._clock("update"):
            for minibatch in plan.value:
                loss, norm = self._update(minibatch, log, ctx)
                norms.append(norm)
                metrics["loss"] = loss
        metrics |= self._update_metrics(log, norms)
        metrics["activity"] = self._activity(batch, plan.value, log)

        signals = Signals(
            entropy=metrics["entropy"], update_nll=log.mean("nll"), kl=log.mean("kl"),
            reward=metrics["reward"], accuracy=metrics["accuracy"], grad_norm=metrics.get("grad_norm", 0.0),
            rows=len(selection.value), ref_kl=metrics.get("ref_kl"), metrics=metrics,
        )  # fmt: skip
        for component in stages.all_components().values():
            metrics |= component.after_update(signals, ctx)
        self._reset(frozenset().union(*(c.resets() for c in stages.all_components().values())))
        return metrics | self._usage()

    def _check_resets(self) -> None:
        """Refuse components whose resets cannot be done here."""
        wanted = frozenset().union(*(c.may_reset for c in self.stages.all_components().values()))
        if wanted - RESETS:
            raise ValueError(
                f"unknown reset {', '.join(sorted(wanted - RESETS))}; there are {sorted(RESETS)}"
            )
        if "reference" in wanted and self.reference is None:
            raise ValueError("a component resets the reference, but no stage sets needs_reference")

    def _reset(self, wanted: frozenset[str]) -> None:
        """Start afresh what components ask for (:data:`harness.stages.base.RESETS`)."""
        if "reference" in wanted and self.reference is not None:
            self.reference.load_weights(self.policy.weights())
            self._reference_moved = True
        if "optimizer" in wanted:
            self.optimizer.state.clear()

    # --- stations that need the model ------------------------------------------------------------------

    @property
    def looks_by(self) -> EngineSampler | None:
        """The engine, if it draws for the probe and evaluations too: where its log-probs are those at T 1."""
        drawer = self.sampler
        return drawer if isinstance(drawer, EngineSampler) and self.run.rollout.temperature == 1 else None

    @property
    def _scores_when_sampled(self) -> bool:
        """Whether the old pass is taken with the weights that sampled, before rollouts wait."""
        return bool(self.run.rollout.lag) and self.run.rollout.ratio_to == "sampling"

    def _next_rollouts(self, ctx: StepContext) -> tuple[Batch, dict[str, float]]:
        """The rollouts this step trains on: new ones or, with a lag (:mod:`harness.lag`), the oldest."""
        lag, queue, step = self.run.rollout.lag, self._waiting, self.counters.step
        if not lag:
            return self._sampled(ctx), {}
        while len(queue) <= lag and not self._sampled_all():
            batch = self._sampled(self._context(step + len(queue)))
            queue.put(step, self._old_pass(batch) if self._scores_when_sampled else batch)
        sampled_at, batch = queue.take()
        return batch, {"lag": float(step - sampled_at)}

    def _sampled(self, ctx: StepContext) -> Batch:
        with self._clock("rollout"):
            batch = self._rollouts(ctx)
            self.sampler.rest()
        return batch

    def _sampled_all(self) -> bool:
        """Whether rollouts wait for every step that is left."""
        waiting = len(self._waiting)
        return self.counters.step - 1 + waiting >= self.run.train.steps or (waiting > 0 and self._spent())

    def _rollouts(self, ctx: StepContext) -> Batch:
        """Run the method's rollout program, answering its requests."""
        self._seen.clear()
        program = self.stages.rollout.run(ctx)
        answer: Any = None
        while True:
            try:
                request = program.send(answer)
            except StopIteration as stop:
                batch: Batch = stop.value
                return batch if batch.verdicts is not None else self._verify(batch, ctx)
            if isinstance(request, Draw):
                answer = self.stages.prompts.draw(request.n)
            elif isinstance(request, Generate):
                answer = self._generate(request, ctx)
            elif isinstance(request, Score):
                answer = self.policy.scores(request.batch, request.stats, self.run.train.micro_batch_rows)
                self.counters.extra_forward_tokens += int(request.batch.mask_BT.sum())
            elif isinstance(request, Verify):
                answer = self._verify(request.batch, ctx)
            else:
                raise TypeError(f"a rollout program may not yield {type(request).__name__}")

    def _generate(self, request: Generate, ctx: StepContext) -> Batch:
        rollout, n = self.run.rollout, request.n
        keys = []
        for p in request.prompts:
            stream = (p.problem.id, p.stream, request.sample_offset)
            again = self._seen[stream]  # a problem that comes twice in a step must not get the same draws
            self._seen[stream] += 1
            samples = range(request.sample_offset, request.sample_offset + n)
            keys += [(ctx.seed, ctx.step, p.problem.id, p.stream, again, i) for i in samples]
        batch = roll_out(
            self.policy, request.prompts, n, keys=keys, sample_offset=request.sample_offset,
            temperature=request.temperature or rollout.temperature,
            max_tokens=request.max_tokens or rollout.max_response_tokens, by=self.sampler,
            token_temperature=request.token_temperature,
        )  # fmt: skip
        self.counters.generated_tokens += int(batch.mask_BT.sum())
        return batch

    def _verify(self, batch: Batch, ctx: StepContext) -> Batch:
        verdicts = verify_shared(self.benchmark, batch)
        if self.run.train.random_reward:
            coins = torch.rand(len(batch), generator=ctx.generator("coins", self.counters.verifier_calls))
            verdicts = tuple(
                Verdict("right" if coin < 0.5 else "wrong", v.canonical)
                for v, coin in zip(verdicts, coins.tolist(), strict=True)
            )
        self.counters.verifier_calls += len(verdicts)
        return batch.with_(verdicts=verdicts)

    def _old_pass(self, batch: Batch) -> Batch:
        """Declared statistics under the policy before the update, and the reference's log-probs."""
        micro_rows = self.run.train.micro_batch_rows
        with self._clock("old"):
            wanted = dict.fromkeys([LOGP, ENTROPY, *_old_stats(self._declared)])
            batch = batch.with_(old=self.policy.scores(batch, wanted, micro_rows))
            if self.reference is not None:
                ref = self.reference.scores(batch, (LOGP,), micro_rows)
                batch = batch.with_(ref_logp_BT=ref["logp"])
                self.counters.extra_forward_tokens += int(batch.mask_BT.sum())
        return batch

    def _compared(self, batch: Batch) -> tuple[Batch, dict[str, float]]:
        """The batch with its correction; how far its rollouts are from the policy that ratios divide by."""
        rollout = self.run.rollout
        cap = rollout.correction_cap if corrects(self.run) else None
        metrics = mismatch_metrics(batch, cap)
        if metrics["mismatch_alarm"] and not self._alarmed and world().leads:
            self._alarmed = True
            kl, waits = metrics["mismatch_kl"], 0 if self._scores_when_sampled else rollout.lag
            warnings.warn(alarm_text(kl, self.counters.step, rollout.engine, waits), stacklevel=2)
        if cap is not None:
            batch = batch.with_(correction_BT=truncated_weights(batch, cap))
        return batch, metrics

    def _update(self, minibatch: Minibatch, log: UpdateLog, ctx: StepContext) -> tuple[float, float]:
        """One optimiser step; returns loss and gradient norm (before clipping)."""
        train = self.run.train
        self.optimizer.zero_grad(set_to_none=True)
        entropy_before, tokens_before = log.sums.get("entropy", 0.0), log.tokens
        loss, multiplier = backward(
            self.policy, self.stages, minibatch, log, micro_rows=train.micro_batch_rows,
            width=self.run.rollout.max_response_tokens, scope=train.scope,
            draw_key=(ctx.seed, ctx.step, log.updates),
        )  # fmt: skip
        norm = float(whole(torch.nn.utils.clip_grad_norm_(self._parameters, train.max_grad_norm)))
        if not torch.isfinite(torch.tensor([loss, norm])).all():
            raise FloatingPointError(
                f"loss {loss} with gradient norm {norm} at step {self.counters.step}: the run diverged; "
                "lower train.lr or the method's bounds"
            )
        warm = min(1.0, (self.counters.updates + 1) / max(train.warmup_steps, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = train.lr * warm * multiplier
        self.optimizer.step()
        self.policy.network.stepped()
        self.sampler.outdated()
        self.counters.updates += 1
        self.counters.train_tokens += int(minibatch.batch.train_mask_BT.sum())
        if any(stage.needs_row_grad_norms for stage in self._declared):  # a pass per row, see update.py
            self.counters.extra_forward_tokens += int(minibatch.batch.mask_BT.sum())
        entropy = (log.sums.get("entropy", 0.0) - entropy_before) / max(log.tokens - tokens_before, 1.0)
        for component in self.stages.all_components().values():
            component.after_minibatch(entropy, ctx)
        return loss, norm

    # --- bookkeeping -----------------------------------------------------------------------------------

    def _context(self, step: int | None = None) -> StepContext:
        """What stages know about ``step``, by default the one at work."""
        run, counters = self.run, self.counters
        step = counters.step if step is None else step
        budget = run.train.token_budget
        used = counters.generated_tokens / budget if budget else step / run.train.steps
        started = used if budget else (step - 1) / run.train.steps
        return StepContext(
            step=step, fraction=min(used, 1.0), total_steps=run.train.steps, seed=run.seed,
            prompts_per_step=run.rollout.prompts_per_step, group_size=run.rollout.group_size,
            max_response_tokens=run.rollout.max_response_tokens, temperature=run.rollout.temperature,
            minibatches=run.train.minibatches, epochs=run.train.epochs, eos_id=self.policy.eos_ids[0],
            started=min(started, 1.0), decode=self.policy.decode,
        )  # fmt: skip

    def _update_metrics(self, log: UpdateLog, norms: Sequence[float]) -> dict[str, float]:
        low, median, high = quantiles(torch.cat(log.ratios), (0.01, 0.5, 0.99))
        return {
            "grad_norm": sum(norms) / len(norms), "updates": float(log.updates), "kl": log.mean("kl"),
            "update_entropy": log.mean("entropy"), "clip_low": log.mean("clip_low"),
            "clip_high": log.mean("clip_high"), "ratio_p01": low, "ratio_p50": median, "ratio_p99": high,
            **{name: sum(values) / len(values) for name, values in log.metrics.items()},
        }  # fmt: skip

    def _activity(self, batch: Batch, plan: Sequence[Minibatch], log: UpdateLog) -> float:
        """Share of tokens whose gradient the method changed (:func:`harness.update.backward` counts them).

        Tokens that plain GRPO would have trained on, with an advantage, and that the method dropped count as
        changed, once per pass over the rollouts.
        """
        missing = (batch.tags["grpo_advantage"] != 0) & (_extra(batch) == 0)
        for trained in (minibatch.batch for minibatch in plan):
            # replayed rows carry the numbers of another step
            missing &= ~torch.isin(batch.tags["row"], trained.tags["row"][_extra(trained) == 0])
        dropped = self.run.train.epochs * float(batch.length_B[missing].sum())
        return (log.sums.get("changed", 0.0) + dropped) / max(log.tokens + dropped, 1.0)

    def _usage(self) -> dict[str, float]:
        return {"generated_tokens": float(self.counters.generated_tokens)}

    @contextmanager
    def _clock(self, station: str) -> Iterator[None]:
        start = time.perf_counter()
        with naming_memory(self.run, station):
            yield
        self.seconds[station] = self.seconds.get(station, 0.0) + time.perf_counter() - start

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on; of several processes each gets the whole of it."""
        optimizer = whole_state(self.optimizer.state_dict())
        state = {"weights": self.policy.weights(), "optimizer": optimizer, **self.rest_dict()}
        if self.moved_reference is not None:
            state["reference"] = self.moved_reference.weights()
        return state

    @property
    def moved_reference(self) -> Policy | None:
        """The reference where it is no longer the base model, and so has to be in a checkpoint."""
        return self.reference if self._reference_moved else None

    def move_reference(self) -> Policy | None:
        """The reference, about to be given weights of a checkpoint."""
        self._reference_moved = self.reference is not None
        return self.reference

    def rest_dict(self) -> dict[str, Any]:
        """Of :meth:`state_dict` what is neither weights nor optimiser: small, the same on every process."""
        return {
            "counters": dict(vars(self.counters)),
            "components": {k: c.state_dict() for k, c in self._stateful().items()},
            "torch_rng": torch.get_rng_state(),
            "sizes": sorted(self.sizes),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, whatever the number of processes was that it was made by."""
        self.policy.load_weights(state["weights"])
        self.optimizer.load_state_dict(shared_state(state["optimizer"], self._parameters))
        self._reference_moved = "reference" in state
        if self.reference is not None and self._reference_moved:
            self.reference.load_weights(state["reference"])
        self.load_rest(state)

    def load_rest(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`rest_dict`."""
        self.counters = Counters(**state["counters"])
        self.sampler.outdated()
        for name, component in self._stateful().items():
            component.load_state_dict(state["components"][name])
        torch.set_rng_state(state["torch_rng"])
        self.sizes = set(state.get("sizes", (1,)))  # older states are of one process

    def _stateful(self) -> dict[str, Component]:
        queue = {"rollout_queue": self._waiting} if self.run.rollout.lag else {}
        return {**self.stages.all_components(), **queue}


def _extra(batch: Batch) -> Tensor:
    return batch.tags.get("extra", torch.zeros(len(batch)))


def _old_stats(stages: Sequence[Any]) -> list[TokenStat]:
    return [stat for stage in stages for stat in stage.old_stats]


def _over_tokens(value: Tensor, mask_BT: Tensor) -> Tensor:
    """A ``[B]`` or ``[B,T]`` credit as ``[B,T]``, 0 on padding."""
    spread = value[:, None] if value.ndim == 1 else value
    return torch.where(mask_BT, spread.expand(mask_BT.shape), 0.0)
