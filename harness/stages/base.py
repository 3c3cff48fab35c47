"""The stages of a training step as interfaces: what stands where, with which inputs and outputs.

A method composes a :class:`Stages`. Stages are pure: inputs in, :class:`Out` (value and metrics) out, no
global random state (``ctx.generator``) and no I/O. What outlives a step is a :class:`Component`, listed in
``Stages.components``, whose state the trainer checkpoints.

Every stage may declare what it needs; the trainer computes nothing else:

* ``old_stats``: token statistics under the policy before the update (read from ``batch.old``);
* ``current_stats``: token statistics of the current pass (read from ``current``), differentiable;
* ``needs_reference``: the frozen reference's log-probs (``batch.ref_logp_BT``);
* ``reference_stats``: further token statistics under the reference (``batch.token_tags``, by their names);
* ``needs_row_grad_norms``: ``batch.tags["grad_norm"]``, the norm of each row's summed score function at the
  current weights, before the stage runs (an extra pass per row);
* ``needs_proposal``: the stage sees each optimiser step before it is made
  (:class:`~harness.stages.proposal.ProposedStep`), in :meth:`StepSize.shorten` or :meth:`Diagnostic.of_step`;
* ``needs_draws``: ``batch.draw_BT``, a uniform number per token that depends on seed, step, optimiser step
  and rollout, and on nothing else: no order or split of the rows changes a random choice;
* ``minibatch_scope``: the stage's ``prepare`` takes statistics over the whole minibatch, so a minibatch that
  is split into micro-batches gets a no-gradient pre-pass;
* ``engine_needs``: capabilities the rollout engine must offer;
* ``reads_tags``, ``writes_tags``: names of the batch's tags (``tags`` and ``token_tags``) that the stage
  cannot do without, and those that it sets; a composition without the writer of a tag is refused;
* ``corrects_rollouts``: the stage weighs tokens by ``batch.rollout_logp_BT`` itself, so the run's own
  correction (``rollout.correction``) would count twice and is refused;
* ``needs_demonstrations``: the rollout program asks for demonstrations (:class:`Demonstrate`);
* ``needs_fresh_rollouts``: it reads what this step's rollout program left behind in a component, so rollouts
  that waited for their step (``rollout.lag``) are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from harness.problems.problem import Problem
from harness.stages.batch import Batch
from harness.stages.proposal import ProposedStep
from harness.stages.requests import Program
from harness.stages.token_stats import TokenStat

if TYPE_CHECKING:
    from torch import Tensor

V = TypeVar("V")
#: Name of a token statistic -> its values at the batch's tokens, (rows, tokens).
Stats = Mapping[str, "Tensor"]


@dataclass(frozen=True)
class Out(Generic[V]):
    """A stage's output: the value and what it wants logged."""

    value: V
    metrics: Mapping[str, float] = field(default_factory=dict)


def _no_tokenizer(rows: Sequence[Sequence[int]]) -> list[str]:
    raise ValueError("this StepContext has no tokenizer: pass decode=policy.decode")


def _no_encoder(text: str) -> list[int]:
    raise ValueError("this StepContext has no tokenizer: pass encode=policy.encode_inside")


def _no_chat(turns: Sequence[Mapping[str, str]]) -> str:
    raise ValueError("this StepContext has no tokenizer: pass chat=policy.chat")


def _no_pieces(ids: Sequence[int]) -> list[str]:
    raise ValueError("this StepContext has no tokenizer: pass pieces=policy.pieces")


@dataclass(frozen=True)
class StepContext:
    """What a stage may know about the step it works in.

    Attributes:
        step: 1-based step of the run.
        fraction: share of the run's budget used when the step starts, plus this step where the budget is
            counted in steps (``step / total_steps``); in [0, 1]. Schedules use this.
        started: share of the run's budget used when the step starts, 0 in the first step; for schedules that
            count their steps from 0.
        total_steps: step limit of the run.
        seed: the run's seed.
        prompts_per_step, group_size, max_response_tokens, temperature: the rollout settings of the run.
        minibatches, epochs: optimiser steps per pass over the rollouts, and passes.
        eos_id: the tokenizer's end-of-sequence token id; a response may end with other end tokens, too.
        decode: texts of token rows, special tokens left out; for stages that cut or segment responses.
        pieces: texts of single tokens, special ones too; for stages that look for a mark or for words.
        encode: token ids of a text that stands inside a sequence (a prefix, a forced answer).
        context: tokens that a prompt and what follows it may have; None where there is no limit.
        chat: turns (``role``, ``content``) by the model's own chat template, up to where it is to answer.
    """

    step: int
    fraction: float
    total_steps: int
    seed: int
    prompts_per_step: int
    group_size: int
    max_response_tokens: int
    temperature: float
    minibatches: int = 1
    epochs: int = 1
    eos_id: int = 0
    started: float = 0.0
    decode: Callable[[Sequence[Sequence[int]]], list[str]] = _no_tokenizer
    pieces: Callable[[Sequence[int]], list[str]] = _no_pieces
    context: int | None = None
    encode: Callable[[str], list[int]] = _no_encoder
    chat: Callable[[Sequence[Mapping[str, str]]], str] = _no_chat

    def generator(self, *purpose: object) -> torch.Generator:
        """A random generator that depends only on (seed, step, purpose)."""
        text = repr((self.seed, self.step, *purpose)).encode()
        key = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
        return torch.Generator().manual_seed(key)


@dataclass(frozen=True)
class Signals:
    """What controllers see after the policy update of a step (entropies in nats, loss temperature).

    Attributes:
        entropy: token-mean full-softmax entropy of the rollouts under the policy before the update.
        update_nll: token mean of -log-prob of the trained tokens at the weights of each update.
        kl: token-mean k3 estimate of KL(current || old) over the updates.
        ref_kl: token-mean k1 estimate against the reference, when there is one.
        reward, accuracy: means over the trained rollouts.
        grad_norm: mean over the updates, before clipping.
        rows: number of trained rows.
    """

    entropy: float
    update_nll: float
    kl: float
    reward: float
    accuracy: float
    grad_norm: float
    rows: int
    ref_kl: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


#: ``reference`` becomes the current policy, or moves towards it; the state of the ``optimizer`` is dropped.
RESETS = frozenset({"reference", "optimizer"})


class Component:
    """State that outlives a step. Subclasses override what they use; ``state_dict`` holds all of it.

    ``may_reset`` declares what :meth:`resets` may ask for, so that a run which cannot do it is refused.
    ``reference_share`` is the share of the current policy in the reference that it asks for; the rest stays.
    """

    may_reset: frozenset[str] = frozenset()
    reference_share: float = 1.0

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on after a restart, as plain values and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state but the checkpoint holds {sorted(state)}")

    def begin_step(self, ctx: StepContext) -> None:
        """Called before the rollouts of a step."""

    def after_rollout(self, batch: Batch, ctx: StepContext) -> None:
        """Called with the verified rollouts, before any group is filtered out."""

    def before_update(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        """Called before the first update with the rollouts that have advantages, and with ``batch.old``:
        what is decided here holds for this step's updates. Returns what to log."""
        return {}

    def after_minibatch(self, entropy: float, ctx: StepContext) -> None:
        """Called after every optimiser step with its token-mean entropy (nats, current pass)."""

    def after_update(self, signals: Signals, ctx: StepContext) -> Mapping[str, float]:
        """Called after the last update of a step; returns what to log."""
        return {}

    def resets(self) -> frozenset[str]:
        """What starts afresh now that the step is over, of :data:`RESETS`; asked after ``after_update``."""
        return frozenset()


class PromptSource(Component):
    """Prompts stage: which problems next."""

    def bind(self, problems: Sequence[Problem], seed: int) -> None:
        """Receive the training problems, once, before the first step."""
        raise NotImplementedError

    def draw(self, n: int) -> list[Problem]:
        raise NotImplementedError


class Stage:
    """What every stage may declare; the defaults declare nothing."""

    old_stats: tuple[TokenStat, ...] = ()
    current_stats: tuple[TokenStat, ...] = ()
    needs_reference: bool = False
    reference_stats: tuple[TokenStat, ...] = ()
    needs_row_grad_norms: bool = False
    needs_proposal: bool = False
    needs_draws: bool = False
    minibatch_scope: bool = False
    engine_needs: frozenset[str] = frozenset()
    reads_tags: frozenset[str] = frozenset()
    writes_tags: frozenset[str] = frozenset()
    corrects_rollouts: bool = False
    needs_demonstrations: bool = False
    needs_fresh_rollouts: bool = False

    def parts(self) -> tuple[Stage, ...]:
        """Stages this one is composed of; their declarations count as its own."""
        return ()


# --- stages -----------------------------------------------------------------------------------------


class RolloutProgram(Stage):
    """Rollout stage: a generator of requests, returning the step's rollouts."""

    def run(self, ctx: StepContext) -> Program:
        raise NotImplementedError


class Reward(Stage):
    """Reward stage: ``[B]`` or token-level ``[B,T]`` rewards; sees whole groups."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        raise NotImplementedError


class GroupFilter(Stage):
    """Group filter stage: bool ``[B]``, rows that stay (whole groups), by verdict, not shaped reward."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        raise NotImplementedError


class Advantage(Stage):
    """Advantage stage: ``[B]`` or ``[B,T]`` from the gathered batch in prompt order."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        raise NotImplementedError


class Selection(Stage):
    """Selection stage: the batch that trains (rows kept, ``loss_mask_BT``, ``count_mask_BT``)."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Minibatch:
    """One optimiser step: its rows, and optionally another loss (replay) and a coefficient on it."""

    batch: Batch
    loss: Loss | None = None
    coefficient: float = 1.0


class UpdatePlan(Stage):
    """Update plan stage: the list of optimiser steps made from the step's batch."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[list[Minibatch]]:
        raise NotImplementedError


class Loss(Stage):
    """Loss stage.

    ``prepare`` runs without gradient once per optimiser step, over the whole minibatch: bounds, weights and
    whatever else is constant in the update. ``__call__`` is differentiable, on a micro-batch, with the rows
    of ``prepared`` that belong to it. ``aggregation`` names the reduction; the trainer applies it with counts
    of the whole optimiser step.
    """

    aggregation: str = "token-mean"

    def tokens(self, batch: Batch) -> Tensor:
        """Bool ``[B,T]``: the tokens this loss is of; the reduction counts them alone.

        Known before the pass, so no statistic of it is needed for a denominator of one's own.
        """
        return batch.train_mask_BT

    def prepare(self, batch: Batch, current: Stats) -> Out[dict[str, Tensor]]:
        """Constants of the update by name: scalars, ``[B]``, ``[B,1]`` or ``[B,T]``."""
        return Out({})

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        """Per-token loss ``[B,T]``, before aggregation."""
        raise NotImplementedError

    def ratio_BT(self, batch: Batch, current: Stats) -> Tensor:
        """The importance ratio that this loss bounds, for the log (ratio quantiles, clip fractions)."""
        return (current["logp"] - batch.old["logp"]).clamp(-20.0, 20.0).exp()


class Regulariser(Loss):
    """A term added to the loss, aggregated on its own; ``coefficient()`` may be moved by a controller."""

    def coefficient(self) -> float:
        raise NotImplementedError


class StepSize(Stage):
    """Optimiser stage: a multiplier on the learning rate of one optimiser step, and a factor on the step."""

    minibatch_scope = True

    def __call__(self, batch: Batch, current: Stats) -> Out[float]:
        """The multiplier, from the whole minibatch before its gradient."""
        raise NotImplementedError

    def shorten(self, proposed: ProposedStep) -> Out[float]:
        """The share of the proposed step that is taken; asked where ``needs_proposal`` is set."""
        return Out(1.0)


class Diagnostic(Stage):
    """A measurement of the step that trains nothing; any run may log any of them (``train.diagnostics``)."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        """What to log about the rows that train, with their advantages, before the first update."""
        raise NotImplementedError

    def of_step(self, proposed: ProposedStep) -> Mapping[str, float]:
        """What to log about an optimiser step, as means; asked where ``needs_proposal`` is set."""
        return {}


@dataclass(frozen=True)
class Stages:
    """All stages of a step. Build it from :func:`harness.stages.defaults.grpo_stages` and ``with_``."""

    prompts: PromptSource
    rollout: RolloutProgram
    reward: Reward
    group_filter: GroupFilter
    advantage: Advantage
    selection: Selection
    plan: UpdatePlan
    loss: Loss
    regularisers: tuple[Regulariser, ...] = ()
    step_size: StepSize | None = None
    diagnostics: tuple[Diagnostic, ...] = ()
    components: Mapping[str, Component] = field(default_factory=dict)

    def with_(self, **changes: Any) -> Stages:
        """A copy in which some stages are others (``components`` are added to, not replaced)."""
        if "components" in changes:
            added = changes["components"]
            twice = set(added) & set(self.components)
            if twice:
                raise ValueError(f"components named twice: {sorted(twice)}")
            changes["components"] = {**self.components, **added}
        return replace(self, **changes)

    def all_components(self) -> dict[str, Component]:
        """Every stateful component by name, the prompt source included."""
        return {"prompts": self.prompts, **self.components}

    def of_step(self) -> tuple[Stage, ...]:
        """All stages, composed ones followed by their parts."""
        roots: list[Stage] = [
            self.rollout, self.reward, self.group_filter, self.advantage, self.selection, self.plan,
            self.loss, *self.regularisers, *([self.step_size] if self.step_size else []),
            *self.diagnostics,
        ]  # fmt: skip
        found: list[Stage] = []
        while roots:
            stage = roots.pop(0)
            found.append(stage)
            roots[:0] = stage.parts()
        return tuple(found)
