"""Problems by difficulty, as the step's rollouts tell it, and a KL with a weight for each difficulty."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from harness.stages.base import Component, Out, Regulariser, Selection, Signals, Stats, StepContext
from harness.stages.batch import Batch
from harness.stages.regularise import kl_estimate
from harness.stages.token_stats import LOGP

if TYPE_CHECKING:
    from torch import Tensor

#: The names of the difficulties, in the order of their numbers.
DIFFICULTIES = ("easy", "medium", "hard")


def difficulty(correct_B: Tensor, group_B: Tensor) -> Tensor:
    """0 easy, 1 medium (accuracy of the group below 2/3), 2 hard (below 1/3), ``[B]`` int64."""
    _, index_B, count_G = torch.unique(group_B, return_inverse=True, return_counts=True)
    right_G = torch.zeros(len(count_G), dtype=torch.float64).index_add(0, index_B, correct_B.double())
    accuracy_B = (right_G / count_G)[index_B]  # a lone row's is its own: it is no baseline
    return (accuracy_B < 2 / 3).long() + (accuracy_B < 1 / 3).long()


@dataclass(frozen=True)
class TagDifficulty(Selection):
    """Keeps every row; notes its difficulty while whole groups are at hand (a minibatch may cut them)."""

    writes_tags = frozenset({"difficulty"})

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        return Out(batch.with_tags(difficulty=difficulty(batch.correct_B, batch.group_B)))


def difficulty_means(value_BT: Tensor, mask_BT: Tensor, difficulty_B: Tensor) -> list[float | None]:
    """Mean over the responses of a difficulty of their token mean; None where there are none."""
    mask = mask_BT.bool()
    row_B = torch.where(mask, value_BT, 0.0).sum(1) / mask.sum(1).clamp(min=1)
    rows = [row_B[difficulty_B == d] for d in range(len(DIFFICULTIES))]
    return [float(own.double().mean()) if len(own) else None for own in rows]


class KLWeights(NamedTuple):
    """By difficulty: beta, the averages of the KL and of its relative error; and the number of calls."""

    beta: list[float]
    kl: list[float | None]
    error: list[float]
    calls: int = 0


@dataclass(frozen=True)
class KLRule:
    """How the weights follow the KL.

    A measured KL enters an average (``ema``) that starts at the first one; its relative error is
    ``average / target - 1``. In every ``interval``-th call an error of at least ``dead_zone`` enters an
    average of its own, from 0, and ln beta moves by ``rate`` times that, clipped to ``error_clip``.
    """

    target: float = 0.01
    interval: int = 100
    ema: float = 0.97
    rate: float = 0.05
    error_clip: float = 0.2
    dead_zone: float = 0.02
    low: float = 1e-4
    high: float = 100.0
    start: float = 1.0

    def first(self) -> KLWeights:
        """The state before any KL was measured."""
        n = len(DIFFICULTIES)
        return KLWeights([self.start] * n, [None] * n, [0.0] * n)

    def adapted(self, state: KLWeights, kl: Sequence[float | None]) -> KLWeights:
        """The state after the mean KLs of one call (None: no such rows)."""
        beta, average, error, calls = list(state.beta), list(state.kl), list(state.error), state.calls + 1
        for d, now in enumerate(kl):
            if now is None:
                continue
            before = average[d]
            mean = now if before is None else self.ema * before + (1 - self.ema) * now
            average[d], off = mean, mean / self.target - 1
            if abs(off) >= self.dead_zone and calls % self.interval == 0:
                error[d] = (1 - self.ema) * off + self.ema * error[d]
                step = self.rate * min(max(error[d], -self.error_clip), self.error_clip)
                beta[d] = min(max(beta[d] * math.exp(step), self.low), self.high)
        return KLWeights(beta, average, error, calls)


class DifficultyWeights(Component):
    """The state of :class:`KLRule`: what an optimiser step measures holds in it, and stays after it."""

    def __init__(self, rule: KLRule) -> None:
        self.rule, self.weights = rule, rule.first()
        self._measured: KLWeights | None = None

    def state_dict(self) -> dict[str, Any]:
        return self.weights._asdict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weights = KLWeights(*(state[name] for name in KLWeights._fields))

    def measure(self, kl: Sequence[float | None]) -> list[float]:
        """beta of each difficulty with these KLs in it, for the optimiser step that they were measured in."""
        self._measured = self.rule.adapted(self.weights, kl)
        return self._measured.beta

    def observe(self, kl: float) -> None:
        """Take in one KL for all difficulties."""
        self.weights = self.rule.adapted(self.weights, [kl] * len(DIFFICULTIES))

    def after_minibatch(self, entropy: float, ctx: StepContext) -> None:
        self.weights, self._measured = self._measured or self.weights, None

    def after_update(self, signals: Signals, ctx: StepContext) -> Mapping[str, float]:
        return {f"kl_weight/{d}": v for d, v in zip(DIFFICULTIES, self.weights.beta, strict=True)}


@dataclass(frozen=True)
class DifficultyKL(Regulariser):
    """``+ coef * agg(beta_d k3)`` with the weights of each row's difficulty, moved before they are used.

    ``rho`` weighs tokens that a stage has tagged ``in_window``.
    """

    weights: DifficultyWeights
    coef: float
    rho: float = 1.0
    aggregation: str = "token-mean"

    current_stats = (LOGP,)
    needs_reference = True
    minibatch_scope = True
    reads_tags = frozenset({"difficulty"})

    def coefficient(self) -> float:
        return self.coef

    def prepare(self, batch: Batch, current: Stats) -> Out[dict[str, Tensor]]:
        kl, level_B = self.kl(batch, current), batch.tags["difficulty"].long()
        beta = self.weights.measure(difficulty_means(kl, batch.mask_BT, level_B))
        weight = torch.tensor(beta, dtype=kl.dtype)[level_B][:, None]
        inside = batch.token_tags.get("in_window")
        return Out({"beta": weight if inside is None else torch.where(inside, self.rho * weight, weight)})

    def kl(self, batch: Batch, current: Stats) -> Tensor:
        """k3 at each token, ``[B,T]``."""
        return kl_estimate("k3", current["logp"], batch.reference_logp())

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        return prepared["beta"] * self.kl(batch, current)
