r"""CurioSFT: SFT with a distillation towards the model's own distribution, made flatter (arXiv 2602.02244).

    H    = entropy of the teacher at a token        H* = H + max_gain sigmoid(slope (H - pivot))
    tau  = the temperature in [tau_min, tau_max] at which the teacher's entropy is H*
    q    = log softmax(z / tau) of the teacher at the demonstration's token
    loss = mean over tokens of -logp + alpha (logp - q)^2 / 2

z are the teacher's logits. The teacher is a copy of the model that follows it every ``sync_every`` steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from entrobench import (
    AGGREGATIONS,
    ENTROPY,
    LOGP,
    Batch,
    Component,
    FineTuning,
    Regulariser,
    RunConfig,
    Signals,
    Stages,
    Stats,
    StepContext,
    TokenStat,
    UserError,
    cross_entropy,
    demonstrated,
    hp,
    kl_estimate,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


def tempered_entropy(logits_NK: Tensor, tau_N: Tensor) -> Tensor:
    """``[N]`` entropy, nats, of softmax(logits / tau)."""
    return ENTROPY.compute(logits_NK / tau_N[:, None], torch.empty(0))


def target_gain(entropy_N: Tensor, pivot: float, slope: float, max_gain: float) -> Tensor:
    """``[N]`` nats by which the entropy is to grow: hardly where it is small, ``max_gain`` where large."""
    return max_gain * torch.sigmoid(slope * (entropy_N - pivot))


@dataclass(frozen=True)
class CuriousLogProb(TokenStat):
    """log q(token) of a teacher at the temperature that raises its entropy by :func:`target_gain`.

    The search sees the ``top_k`` largest logits, renormalised; q itself is of the whole vocabulary.
    """

    name: str = "curious_logp"
    tau_min: float = 1.1
    tau_max: float = 1.5
    pivot: float = 1.2
    slope: float = 2.0
    max_gain: float = 0.5
    low_entropy: float = 0.03
    top_k: int = 512
    iterations: int = 20

    def largest(self, logits_NV: Tensor) -> Tensor:
        """``[N,K]``, the logits that the search sees."""
        return logits_NV.topk(min(self.top_k, logits_NV.shape[1]), 1).values

    def temperature(self, logits_NV: Tensor) -> Tensor:
        """``[N]``, by bisection; an end of the range where the target lies outside of it.

        The lower end comes first: where all logits are equal and no gain is asked for, both would do.
        """
        top_NK = self.largest(logits_NV)
        ones_N = torch.ones_like(top_NK[:, 0])
        entropy_N = tempered_entropy(top_NK, ones_N)
        wanted_N = entropy_N + target_gain(entropy_N, self.pivot, self.slope, self.max_gain)
        low_N, high_N = self.tau_min * ones_N, self.tau_max * ones_N
        below_N = wanted_N <= tempered_entropy(top_NK, low_N)
        above_N = wanted_N >= tempered_entropy(top_NK, high_N)
        tau_N = (low_N + high_N) / 2
        for _ in range(self.iterations):
            short_N = tempered_entropy(top_NK, tau_N) < wanted_N
            low_N, high_N = torch.where(short_N, tau_N, low_N), torch.where(short_N, high_N, tau_N)
            tau_N = (low_N + high_N) / 2
        tau_N = torch.where(below_N, self.tau_min, torch.where(above_N, self.tau_max, tau_N))
        sure_N = tempered_entropy(logits_NV, ones_N) <= self.low_entropy
        return torch.where(sure_N, self.tau_min, tau_N)

    def compute(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        return LOGP.compute(logits_NV / self.temperature(logits_NV)[:, None], target_N)


@dataclass(frozen=True)
class SelfDistillation(Regulariser):
    """``alpha * agg((logp - q)^2 / 2)``, q of the teacher: the k2 estimate of a KL at the token."""

    teacher: CuriousLogProb = CuriousLogProb()
    alpha: float = 1.0
    aggregation: str = "token-mean"

    current_stats = (LOGP,)
    needs_reference = True

    @property
    def reference_stats(self) -> tuple[TokenStat, ...]:  # type: ignore[override]
        return (self.teacher,)

    def coefficient(self) -> float:
        return self.alpha

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        return kl_estimate("k2", current["logp"], batch.token_tags[self.teacher.name])


class FollowingTeacher(Component):
    """Has the reference follow the policy: by ``share`` of the way, after every ``every`` of its passes."""

    may_reset = frozenset({"reference"})

    def __init__(self, every: int, share: float) -> None:
        self.every, self.reference_share, self.passes = every, share, 0

    def after_update(self, signals: Signals, ctx: StepContext) -> Mapping[str, float]:
        self.passes += 1
        return {"curiosft/syncs": float(self.passes // self.every)}

    def resets(self) -> frozenset[str]:
        return self.may_reset if self.passes % self.every == 0 else frozenset()

    def state_dict(self) -> dict[str, Any]:
        return {"passes": self.passes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.passes = int(state["passes"])


@register("curiosft")
@dataclass(frozen=True)
class CurioSFT(FineTuning):
    """Cross-entropy, and a pull to the model's own distribution at a temperature of each token's own."""

    alpha: float = hp(1.0, "weight of the distillation", ge=0)
    tau_min: float = hp(1.1, "lowest temperature of the teacher", gt=0)
    tau_max: float = hp(1.5, "highest temperature of the teacher", gt=0)
    pivot: float = hp(1.2, "entropy at which half of the gain is asked for, nats", ge=0)
    slope: float = hp(2.0, "how fast the gain grows with the entropy, per nat", ge=0)
    max_gain: float = hp(0.5, "entropy that is asked for beyond the teacher's at most, nats", ge=0)
    low_entropy: float = hp(0.03, "tokens up to this entropy take tau_min, nats", ge=0)
    top_k: int = hp(512, "largest logits that the search for the temperature sees", ge=2)
    iterations: int = hp(20, "bisections of that search", ge=1)
    sync_every: int = hp(5, "steps after which the teacher follows", ge=1)
    sync_share: float = hp(0.99, "share of the model in the teacher that has followed", gt=0, le=1)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        super().validate(run)
        if self.tau_min >= self.tau_max:
            raise UserError(
                f"method.tau_min={self.tau_min:g} leaves no temperature below tau_max={self.tau_max:g}; "
                "lower method.tau_min"
            )

    def stages(self) -> Stages:
        teacher = CuriousLogProb(
            tau_min=self.tau_min, tau_max=self.tau_max, pivot=self.pivot, slope=self.slope,
            max_gain=self.max_gain, low_entropy=self.low_entropy, top_k=self.top_k,
            iterations=self.iterations,
        )  # fmt: skip
        return demonstrated(cross_entropy(self.aggregation)).with_(
            regularisers=(SelfDistillation(teacher, self.alpha, self.aggregation),),
            components={"teacher": FollowingTeacher(self.sync_every, self.sync_share)},
        )
