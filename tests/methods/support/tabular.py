"""The signs that the papers derive, measured: gradient steps of tabular softmax policies through the
project's own update, and their entropy in closed form before and after.

A state is a row; its N tokens are draws in that state and share its logits. Where a statement is about
expectations the draws are not random: action a occurs exactly N pi(a) times, so that the mean over the tokens
is the expectation. Sizes are those of a plain policy-gradient step, logits + size * mean of A (e_a - p)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.problems.problem import Problem
from harness.registry import methods as registry
from harness.stages.base import Minibatch, Stages
from harness.stages.batch import Batch
from harness.train.update import UpdateLog, backward
from tests.methods.support.pipeline import LogitsPolicy

STATES = 1500


PLAIN = {"aggregation": "token-mean", "eps_low": 1.0, "eps_high": math.inf}


def stages(name: str, **values: Any) -> Stages:
    made: Stages = registry.load(name)(**values).stages()
    return made


def entropy(logits_SK: Tensor) -> Tensor:
    logp = logits_SK.log_softmax(1)
    return -(logp.exp() * logp).sum(1)


def taken(
    made: Stages, logits_SK: Tensor, tokens_SN: Tensor, advantage_SN: Tensor, size: float,
    old_SK: Tensor | None = None, reference: Tensor | None = None,
) -> tuple[Tensor, UpdateLog]:  # fmt: skip
    """The logits after one gradient step on the loss of ``made``, and what the update logged.

    ``old_SK`` are the logits of the policy that drew the tokens, by default the current ones; ``reference``
    the reference's log-probs of the tokens.
    """
    states, n = tokens_SN.shape
    old = logits_SK if old_SK is None else old_SK
    row = torch.arange(states)
    batch = Batch(
        prompt_BP=row[:, None], prompt_mask_BP=torch.ones(states, 1, dtype=torch.bool),
        response_BT=tokens_SN, mask_BT=torch.ones(states, n, dtype=torch.bool), group_B=row, sample_B=row,
        temperature_B=torch.ones(states), truncated_B=torch.zeros(states, dtype=torch.bool),
        rollout_logp_BT=torch.zeros(states, n), problems=(Problem("state", "?"),) * states,
        texts=("",) * states, advantage_BT=advantage_SN, tags={"row": row},
        ref_logp_BT=reference,
        old={"logp": old.log_softmax(1).gather(1, tokens_SN), "entropy": entropy(old)[:, None].expand(-1, n)},
    )  # fmt: skip
    leaf = logits_SK[:, None].expand(-1, n, -1).clone().requires_grad_()
    policy: Any = LogitsPolicy(leaf, leaf[:, :1].detach(), 1.0)
    log = UpdateLog()
    backward(policy, made, Minibatch(batch), log, micro_rows=states, width=n)
    assert leaf.grad is not None
    # the loss divides by all states' tokens; a state's own step divides by its own
    return logits_SK - size * states * leaf.grad.sum(1), log


def change(*arguments: Any, **options: Any) -> Tensor:
    """Entropy after the step minus before it, ``[S]``, nats."""
    return entropy(taken(*arguments, **options)[0]) - entropy(arguments[1])


def agreement(measured: Tensor, predicted: Tensor, at_least: float = 0.0) -> float:
    """Share of equal signs among predictions of at least that size."""
    counted = predicted.abs() > at_least
    return float((measured.sign() == predicted.sign())[counted].double().mean())


@dataclass
class Draws:
    """One token per state with a random advantage; ``moved``: how far the policy left the one that drew."""

    logits: Tensor
    old: Tensor
    tokens: Tensor
    advantage: Tensor

    @classmethod
    def make(cls, spread: float, actions: int = 20, moved: float = 0.0) -> Draws:
        g = torch.Generator().manual_seed(0)
        old = spread * torch.randn(STATES, actions, generator=g, dtype=torch.float64)
        tokens = torch.multinomial(old.softmax(1), 1, generator=g)
        advantage = torch.randn(STATES, 1, generator=g, dtype=torch.float64)
        logits = old + moved * torch.randn(old.shape, generator=g, dtype=torch.float64)
        return cls(logits, old, tokens, advantage)

    def change(self, made: Stages, size: float) -> Tensor:
        return change(made, self.logits, self.tokens, self.advantage, size, old_SK=self.old)

    def logp(self, which: Tensor) -> Tensor:
        return which.log_softmax(1).gather(1, self.tokens)[:, 0]

    def steer_metric(self) -> Tensor:
        """Omega = (A / q) p (1 - p) (ln p + H), signed; H is the old policy's."""
        p, q = self.logp(self.logits).exp(), self.logp(self.old).exp()
        return self.advantage[:, 0] / q * p * (1 - p) * (p.log() + entropy(self.old))


@dataclass
class Expected:
    """Probabilities in whole 64ths, every action as often as it is likely, random advantages."""

    logits: Tensor
    tokens: Tensor
    action_advantage: Tensor

    @classmethod
    def make(cls, sharpness: float, actions: int = 8, n: int = 64) -> Expected:
        g = torch.Generator().manual_seed(1)
        weights = (sharpness * torch.randn(STATES, actions, generator=g, dtype=torch.float64)).softmax(1)
        counts = torch.ones(STATES, actions, dtype=torch.long)
        more = torch.multinomial(weights, n - actions, replacement=True, generator=g)
        counts.scatter_add_(1, more, torch.ones_like(more))
        tokens = torch.stack([torch.repeat_interleave(torch.arange(actions), row) for row in counts])
        advantage = torch.randn(STATES, actions, generator=g, dtype=torch.float64)
        return cls(counts.double().log(), tokens, advantage)

    @property
    def advantage(self) -> Tensor:
        """Centred in every state, as a group's is, ``[S,N]``."""
        drawn = self.action_advantage.gather(1, self.tokens)
        return drawn - drawn.mean(1, keepdim=True)

    def covariance(self, weighted: bool) -> Tensor:
        """Cov over pi of log pi and A, or and pi A, ``[S]``."""
        p, logp = self.logits.softmax(1), self.logits.log_softmax(1)
        other = self.action_advantage - (p * self.action_advantage).sum(1, keepdim=True)
        other = p * other if weighted else other
        return (p * logp * other).sum(1) - (p * logp).sum(1) * (p * other).sum(1)

    def change(self, made: Stages, size: float) -> Tensor:
        return change(made, self.logits, self.tokens, self.advantage, size)
