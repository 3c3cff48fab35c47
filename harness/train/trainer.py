"""The trainer: one straight line from prompts to controllers. A method is what stands at the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from harness.config.schema import RunConfig
from harness.distributed.world import world
from harness.model.policy import Policy
from harness.model.sharding import shared_state, whole, whole_state
from harness.problems.problem import Benchmark, Problem
from harness.rollout.collector import RolloutCollector
from harness.rollout.demonstrations import Demonstrations
from harness.rollout.progress import Clock, Counters, step_context
from harness.rollout.sampled import sampled_with, why_not
from harness.rollout.settings import check_stages, compares, scores_when_sampled
from harness.stages.base import RESETS, Component, Minibatch, Out, Signals, Stages, StepContext
from harness.stages.batch import Batch
from harness.stages.defaults import group_normalised
from harness.stages.demonstrations import all_demonstrated
from harness.stages.token_stats import ENTROPY, LOGP, TokenStat
from harness.train.metrics import activity, batch_metrics, copied, optimiser_metrics, update_metrics
from harness.train.off_policy import PolicyComparison
from harness.train.processes import check_shardable
from harness.train.proposal import check_precise, propose
from harness.train.update import UpdateLog, backward, with_parts
from harness.util import heap, progress

#: Bytes of trained weights from which what is freed is given back to the system: page faults then cost little
#: beside the products.
LARGE = 128 << 20


@dataclass
class Trainer:
    """A run while it trains: its model, optimiser, components and counters, and the step.

    Attributes:
        sizes: numbers of processes that steps were taken with.
        clock: the last step's seconds by stage.
        rollouts: the stage that samples, with the sampler that follows the policy.
        reference: the policy that penalties hold on to, where a stage needs one.
        demonstrations: those that are drawn from, where the rollout stage asks for them.
        passes_itself: why the old pass is one of its own; empty where the sampler takes it.
    """

    run: RunConfig
    policy: Policy
    benchmark: Benchmark
    stages: Stages
    counters: Counters = field(default_factory=Counters)
    sizes: set[int] = field(default_factory=set)
    _reference_moved: bool = False

    def __post_init__(self) -> None:
        train = self.run.train
        self._declared = self.stages.of_step()
        check_stages(self.run, self._declared)
        self.clock = Clock(self.run)
        self.passes_itself = why_not(self.run, self.old_stats())
        self.demonstrations: Demonstrations | None = None
        if any(stage.needs_demonstrations for stage in self._declared):
            self.demonstrations = Demonstrations(self.run, self.policy, self.benchmark)
        self.rollouts = RolloutCollector(
            self.run, self.policy, self.benchmark, self.stages, counters=self.counters, clock=self.clock,
            old_stats=tuple if self.passes_itself else self.old_stats, demonstrations=self.demonstrations,
        )  # fmt: skip
        self._compare = PolicyComparison(self.run)
        network = self.policy.network
        network.chunk_mib = train.logits_chunk_mib
        if self.run.model.compute_dtype != "same":
            network.compute_in(getattr(torch, self.run.model.compute_dtype))
        self.reference = self.policy.frozen_copy() if any(s.needs_reference for s in self._declared) else None
        self._proposes = any(stage.needs_proposal for stage in self._declared)
        if self._proposes:
            check_precise(network, world().size)
        for layer in self._layers():
            network.check_layer(layer)
        if train.activation_checkpointing:
            network.recompute()
        self._check_resets()
        if world().size > 1:
            self._shard()
        network.ready()
        if self.reference is not None:
            self.reference.network.ready()
        self._parameters = network.trainable()
        held = sum(p.numel() * p.element_size() for p in self._parameters if p.device.type == "cpu")
        if held >= LARGE:
            heap.keep_apart()
        self.optimizer = torch.optim.AdamW(
            self._parameters,
            lr=train.lr, betas=(train.beta1, train.beta2), weight_decay=train.weight_decay, fused=True,
        )  # fmt: skip
        drawn = self.demonstrations.problems if self.demonstrations else self._training_problems()
        self.stages.prompts.bind(drawn, self.run.seed)

    def _training_problems(self) -> Sequence[Problem]:
        return self.benchmark.problems(self.run.data.train_split)

    def _shard(self) -> None:
        check_shardable(self.run, self._declared)
        self.policy.network.shard()
        if self.reference is not None:
            self.reference.network.shard()

    def _check_resets(self) -> None:
        """Refuse components whose resets cannot be done here."""
        wanted = frozenset().union(*(c.may_reset for c in self.stages.all_components().values()))
        if wanted - RESETS:
            raise ValueError(
                f"unknown reset {', '.join(sorted(wanted - RESETS))}; there are {sorted(RESETS)}"
            )
        if "reference" in wanted and self.reference is None:
            raise ValueError("a component resets the reference, but no stage sets needs_reference")

    # --- the step --------------------------------------------------------------------------------------

    def finished(self) -> bool:
        """True once the step limit or the budget of generated tokens is reached."""
        drained = self.rollouts.waiting == 0
        return self.counters.step >= self.run.last_step or (drained and self.counters.spent(self.run))

    def step(self) -> dict[str, float]:
        """One training step; returns its metrics."""
        self.clock.begin_step()
        stages, metrics = self.stages, dict[str, float]()
        self.counters.step += 1
        self.sizes.add(world().size)
        ctx = self.context()
        for component in stages.all_components().values():
            component.begin_step(ctx)

        scored = scores_when_sampled(self.run)
        batch, waited = self.rollouts.next(ctx, self.old_pass if scored else None)
        with self.clock.at("rollout"):
            for component in stages.all_components().values():
                component.after_rollout(batch, ctx)
        metrics |= batch_metrics(batch) | waited
        # what plain GRPO would have done with these rollouts; only measured against, never trained on
        batch = batch.with_tags(
            grpo_advantage=group_normalised(batch.correct_B, batch.group_B), row=torch.arange(len(batch))
        )

        # as early as the first stage that reads it, by default after the group filter: fewer rows
        early = [part for stage in (stages.reward, stages.group_filter) for part in with_parts(stage)]
        old_pass_first = not scored and any(part.old_stats or part.needs_reference for part in early)
        if old_pass_first:
            batch = self.old_pass(batch)
        with self.clock.at("reward"):
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
            batch = self.old_pass(batch)
        metrics |= update_metrics(batch)
        if compares(self.run):
            batch, compared = self._compare(batch, ctx.step)
            metrics |= compared

        with self.clock.at("advantage"):
            advantage = stages.advantage(batch, ctx)
            batch = batch.with_(advantage_BT=_over_tokens(advantage.value, batch.mask_BT))
            selection = stages.selection(batch, ctx)
            plan = stages.plan(selection.value, ctx)
        metrics |= {**advantage.metrics, **selection.metrics, **plan.metrics}
        for diagnostic in stages.diagnostics:
            metrics |= diagnostic(selection.value, ctx)
        mean_reward = float(batch.rewards().float().mean())
        metrics |= {"trained_rows": float(len(selection.value))}
        if not all_demonstrated(batch):
            metrics["reward"] = mean_reward
        if not any(len(minibatch.batch) for minibatch in plan.value):
            return metrics | {"skipped_update": 1.0} | self._usage()

        for component in stages.all_components().values():
            metrics |= component.before_update(batch, ctx)
        log, norms, passed = UpdateLog(), [], self.policy.passed_tokens
        rows = sum(len(minibatch.batch) for minibatch in plan.value)
        with self.clock.at("update"), progress.phase("", rows, "rows"):
            for minibatch in plan.value:
                progress.part(len(minibatch.batch))
                loss, norm = self.update(minibatch, log, ctx)
                progress.settle(len(minibatch.batch))
                norms.append(norm)
                metrics["loss"] = loss
        metrics |= optimiser_metrics(log, norms)
        everywhere = sum(world().all_gather(self.policy.passed_tokens - passed))
        metrics["copied_tokens"] = copied(plan.value, everywhere)
        metrics["activity"] = activity(batch, plan.value, log, self.run.train.epochs)

        signals = Signals(
            entropy=metrics["entropy"], update_nll=log.mean("nll"), kl=log.mean("kl"),
            reward=mean_reward, accuracy=metrics.get("accuracy", 1.0),
            grad_norm=metrics.get("grad_norm", 0.0), rows=len(selection.value),
            ref_kl=metrics.get("ref_kl"), metrics=metrics,
        )  # fmt: skip
        for component in stages.all_components().values():
            metrics |= component.after_update(signals, ctx)
        asked = [(c.resets(), c.reference_share) for c in stages.all_components().values()]
        share = min((share for wanted, share in asked if "reference" in wanted), default=1.0)
        self.reset(frozenset().union(*(wanted for wanted, _ in asked)), share)
        return metrics | self._usage()

    def _usage(self) -> dict[str, float]:
        return {"generated_tokens": float(self.counters.generated_tokens)}

    # --- passes and updates ----------------------------------------------------------------------------

    def context(self) -> StepContext:
        """What stages know about the step at work."""
        return step_context(self.run, self.policy, self.counters)

    def old_stats(self) -> tuple[TokenStat, ...]:
        """What stages read of the policy before the update; it may hang on their state."""
        declared = [stat for stage in self._declared for stat in stage.old_stats]
        return tuple(dict.fromkeys([LOGP, ENTROPY, *declared]))

    def _layers(self) -> set[float]:
        """Layers behind which the stages read the policy, at this moment."""
        stats = (s for stage in self._declared for s in (*stage.old_stats, *stage.current_stats))
        return {stat.layer for stat in stats if stat.layer is not None}

    def old_pass(self, batch: Batch) -> Batch:
        """Declared statistics under the policy before the update, and the reference's log-probs."""
        rows, tokens = self.run.train.micro_batch_rows, self.run.train.micro_batch_tokens
        wanted = self.old_stats()
        sampled = sampled_with(batch, wanted, self.counters.updates)
        passes = (not sampled) + (self.reference is not None)
        with self.clock.at("old"), progress.phase("", passes * len(batch), "rows"):
            if not sampled:
                progress.part(len(batch))
                batch = batch.with_(old=self.policy.scores(batch, wanted, rows, tokens))
            if self.reference is not None:
                if not sampled:
                    progress.settle(len(batch))
                progress.part(len(batch))
                asked = [stat for stage in self._declared for stat in stage.reference_stats]
                ref = self.reference.scores(batch, (LOGP, *asked), rows, tokens)
                batch = batch.with_(ref_logp_BT=ref["logp"])
                batch = batch.with_token_tags(**{stat.name: ref[stat.name] for stat in asked})
                self.counters.extra_forward_tokens += int(batch.mask_BT.sum())
        return batch

    def update(self, minibatch: Minibatch, log: UpdateLog, ctx: StepContext) -> tuple[float, float]:
        """One optimiser step; returns loss and gradient norm (before clipping)."""
        train = self.run.train
        self.optimizer.zero_grad(set_to_none=True)
        entropy_before, tokens_before = log.sums.get("entropy", 0.0), log.tokens
        loss, multiplier = backward(
            self.policy, self.stages, minibatch, log, micro_rows=train.micro_batch_rows,
            micro_tokens=train.micro_batch_tokens, width=self.run.rollout.max_response_tokens,
            scope=train.scope, draw_key=(ctx.seed, ctx.step, log.updates),
        )  # fmt: skip
        if self._layers():  # what a loss behind a layer does not reach has gradient 0, not none: decay acts
            for parameter in self._parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        norm = float(whole(torch.nn.utils.clip_grad_norm_(self._parameters, train.max_grad_norm)))
        if not torch.isfinite(torch.tensor([loss, norm])).all():
            raise FloatingPointError(
                f"loss {loss} with gradient norm {norm} at step {self.counters.step}: the run diverged; "
                "lower train.lr or the method's bounds"
            )
        taken = self.counters.updates - self.counters.updates_before
        warm = min(1.0, (taken + 1) / max(train.warmup_steps, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = train.lr * warm * multiplier
        if self._proposes:
            self._propose(minibatch.batch, log)
        else:
            self.optimizer.step()
        self.policy.network.stepped()
        self.rollouts.sampler.outdated()
        self.counters.updates += 1
        self.counters.train_tokens += int(minibatch.batch.train_mask_BT.sum())
        if any(stage.needs_row_grad_norms for stage in self._declared):  # another pass, see row_norms.py
            self.counters.extra_forward_tokens += int(minibatch.batch.mask_BT.sum())
        entropy = (log.sums.get("entropy", 0.0) - entropy_before) / max(log.tokens - tokens_before, 1.0)
        for component in self.stages.all_components().values():
            component.after_minibatch(entropy, ctx)
        return loss, norm

    def _propose(self, batch: Batch, log: UpdateLog) -> None:
        """The optimiser's step, or the share of it that the step-size stage lets pass."""
        train, size = self.run.train, self.stages.step_size
        proposed = propose(
            self.policy, self._parameters, self.optimizer.step, batch, train.micro_batch_rows,
            train.micro_batch_tokens,
        )  # fmt: skip
        taken = size.shorten(proposed) if size is not None and size.needs_proposal else Out(1.0)
        seen = [d.of_step(proposed) for d in self.stages.diagnostics if d.needs_proposal]
        for name, value in {**taken.metrics, **{k: v for one in seen for k, v in one.items()}}.items():
            log.metrics.setdefault(name, []).append(value)
        proposed.take(taken.value)
        self.counters.extra_forward_tokens += 2 * int(batch.mask_BT.sum())

    def reset(self, wanted: frozenset[str], share: float = 1.0) -> None:
        """Start afresh what components ask for (:data:`harness.stages.base.RESETS`).

        Args:
            share: of the policy's weights in the reference's; the rest are what it had.
        """
        if "reference" in wanted and self.reference is not None:
            weights = self.policy.weights()
            if share < 1:
                kept = self.reference.weights()
                weights = {name: _blended(kept[name], value, share) for name, value in weights.items()}
            self.reference.load_weights(weights)
            self._reference_moved = True
        if "optimizer" in wanted:
            self.optimizer.state.clear()

    def begin_at(self, weights: Mapping[str, Tensor], before: Counters) -> None:
        """Start from what another phase of the run has trained, with a reference and an optimiser of its own.

        Args:
            weights: whole ones; the reference holds on to them.
            before: what the run has used so far.
        """
        self.policy.load_weights(weights)
        self.policy.network.stepped()
        self.reset(frozenset({"reference"}))
        self.counters.restore({**vars(before), "updates_before": before.updates})
        self.rollouts.sampler.outdated()

    # --- state -----------------------------------------------------------------------------------------

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
        self.counters.restore(state["counters"])
        self.rollouts.sampler.outdated()
        for name, component in self._stateful().items():
            component.load_state_dict(state["components"][name])
        torch.set_rng_state(state["torch_rng"])
        self.sizes = set(state.get("sizes", (1,)))  # older states are of one process

    def _stateful(self) -> dict[str, Component]:
        return {**self.stages.all_components(), **self.rollouts.components()}


def _blended(kept: Tensor, value: Tensor, share: float) -> Tensor:
    """``(1 - share) kept + share value``; what is no weight, a table of positions, is taken over."""
    return (1 - share) * kept + share * value if value.is_floating_point() else value


def _over_tokens(value: Tensor, mask_BT: Tensor) -> Tensor:
    """A ``[B]`` or ``[B,T]`` credit as ``[B,T]``, 0 on padding."""
    spread = value[:, None] if value.ndim == 1 else value
    return torch.where(mask_BT, spread.expand(mask_BT.shape), 0.0)
