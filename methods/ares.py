r"""ARES: reward and KL by difficulty, from counts of words that open uncertain windows (arXiv 2510.08457).

N_i counts the positions of response i whose LIKELIEST token is a trigger word and whose next W tokens have a
mean entropy of at least tau. A prompt is easy (accuracy of its group >= 2/3), medium (>= 1/3) or hard;
delta = N - N*, with a target N* for each difficulty d. R = accuracy + S, advantages are GRPO's.

``ares@released``: entropies of the ten likeliest tokens; N* = round(mean of the prompts' mean N), of the same
batch; alpha_d <- clip(alpha_d + 0.05 D, 0, 2), D = mean - N*, or N* - mean where hard; tau is an average over
steps of the batch's median of the 95th percentile of W-token means, and -1 at first. With cap = alpha_d c_d,
margin m = max(1, f_d N*), h(x) = x^2 / 2k_d up to k_d, then x - k_d / 2, and s(x) = sigmoid(x / t_d):

    right, easy     S = -min(cap, cap h(x) / (m + k_d)),   x = [delta - m]_+
    right, medium   the same with                          x = [|delta| - m]_+
    right, hard     S = cap s(delta + m) where delta >= -m, else -min(cap, cap h(-delta - m) / 2 (m + k_d))
    wrong           S = u_d cap s([delta - m]_+)

``ares@paper`` (a reconstruction): S = 0 if right, else -lambda_d g, g = [delta]_+, |delta|, [-delta]_+ for
easy, medium, hard, lambda_d = max(0, (E N - N*) / (Var N + 1e-6)); N* is the last step's mean.

Both: loss = clipped loss (0.2 / 0.3, dual clip 3) + kl_coef * token mean of beta_d k3, with a weight beta_d
of each difficulty that follows its KL (``harness/stages/difficulty.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from entrobench import (
    DIFFICULTIES,
    ENTROPY,
    Batch,
    ClippedMethod,
    Component,
    DifficultyKL,
    DifficultyWeights,
    GroupFilter,
    KLRule,
    Out,
    Reward,
    RunConfig,
    Selection,
    Signals,
    Stages,
    StepContext,
    TagDifficulty,
    TokenStat,
    TopEntropy,
    TopToken,
    UserError,
    difficulty,
    following_mean,
    group_mean_std,
    grpo_stages,
    hp,
    register,
    row_quantile,
    top_token_says,
)

if TYPE_CHECKING:
    from torch import Tensor

EASY, MEDIUM, HARD = range(len(DIFFICULTIES))
#: By difficulty: f, k (huber), t (sigmoid), c (cap) and u (share of the cap for wrong answers).
MARGIN, HUBER, SOFTNESS = (0.15, 0.25, 0.35), (2.0, 3.0, 4.0), (2.0, 2.5, 3.0)
CAP, WRONG = (1.0, 1.0, 1.2), (0.6, 0.8, 1.0)
#: Ours: the list of the official code has 176 words like these.
TRIGGERS = (
    "wait hmm but however although though yet instead rather maybe perhaps possibly unless if whether "
    "suppose assume consider let since because so thus therefore hence then next alternatively otherwise "
    "actually indeed check verify recall note think realize reconsider conclude why when"
)


def sample_threshold(entropy_BT: Tensor, mask_BT: Tensor, window: int, percentile: float) -> Tensor:
    """A percentile of the means over the next ``window`` tokens, ``[B]``, nats.

    A position with fewer tokens behind it has the mean of those means; all have the first token's entropy
    in a response that is not longer than the window.
    """
    mean, whole = following_mean(entropy_BT, mask_BT, window)
    count = whole.sum(1)
    rest = torch.where(count > 0, mean.sum(1) / count.clamp(min=1), entropy_BT[:, 0])
    return row_quantile(torch.where(whole, mean, rest[:, None]), mask_BT, percentile)


class Counts(NamedTuple):
    """N, the other triggers with a whole window, and the sum of what N's windows have above tau: ``[B]``."""

    high_B: Tensor
    low_B: Tensor
    excess_B: Tensor


def counted(entropy_BT: Tensor, trigger_BT: Tensor, mask_BT: Tensor, window: int, tau: float) -> Counts:
    """Triggers with ``window`` tokens behind them, by whether these have a mean entropy of at least tau."""
    mean, whole = following_mean(entropy_BT, mask_BT, window)
    seen = trigger_BT.bool() & whole
    high = seen & (mean >= tau)
    excess = torch.where(high, mean - tau, 0.0)
    return Counts(high.sum(1).to(mean.dtype), (seen & ~high).sum(1).to(mean.dtype), excess.sum(1))


def bucket_means(count_B: Tensor, group_B: Tensor, difficulty_B: Tensor) -> list[float | None]:
    """Mean over the prompts of a difficulty of their mean N; None where there are none."""
    means: list[float | None] = []
    for d in range(3):
        groups = group_B[difficulty_B == d].unique()
        own = [count_B[group_B == g].double().mean() for g in groups]
        means.append(float(torch.stack(own).mean()) if own else None)
    return means


def adapted_alpha(
    alpha: Sequence[float], means: Sequence[float | None], rate: float, low: float, high: float
) -> list[float]:
    """alpha after a batch; a difficulty that is not in it keeps its own."""
    out = []
    for d, (own, mean) in enumerate(zip(alpha, means, strict=True)):
        gap = 0.0 if mean is None else mean - round(mean)
        out.append(own if mean is None else min(max(own + rate * (-gap if d == HARD else gap), low), high))
    return out


def entropy_score(
    correct_B: Tensor, difficulty_B: Tensor, count_B: Tensor, target_B: Tensor, alpha_B: Tensor
) -> Tensor:
    """S of the official code, ``[B]``; ``target_B`` and ``alpha_B`` are those of each row's difficulty."""
    f, k, t, c, u = (
        torch.tensor(values, dtype=count_B.dtype)[difficulty_B]
        for values in (MARGIN, HUBER, SOFTNESS, CAP, WRONG)
    )
    cap, delta, margin = alpha_B * c, count_B - target_B, (f * target_B).clamp(min=1)

    def penalty(x: Tensor, share: float = 1.0) -> Tensor:
        huber = torch.where(x <= k, x**2 / (2 * k), x - k / 2)
        return -torch.minimum(cap, share * cap * huber / (margin + k))

    over = (delta - margin).clamp(min=0)
    off = torch.where(difficulty_B == EASY, over, (delta.abs() - margin).clamp(min=0))
    enough = delta >= -margin
    hard = torch.where(
        enough, cap * torch.sigmoid((delta + margin) / t), penalty((-delta - margin).clamp(min=0), 0.5)
    )
    right = torch.where(difficulty_B == HARD, hard, penalty(off))
    return torch.where(correct_B > 0, right, u * cap * torch.sigmoid(over / t))


def paper_score(
    correct_B: Tensor, difficulty_B: Tensor, count_B: Tensor, target: Sequence[float], eps: float = 1e-6
) -> tuple[Tensor, list[float]]:
    """S of the paper, ``[B]``, and lambda of each difficulty; the variance has ddof 0 (ours)."""
    weights, g_B = [], torch.zeros_like(count_B)
    for d in range(3):
        rows = difficulty_B == d
        own, delta = count_B[rows].double(), count_B[rows] - target[d]
        gap = float((own.mean() - target[d]) / (own.var(unbiased=False) + eps)) if len(own) else 0.0
        weights.append(max(0.0, gap))
        signed = -delta if d == HARD else delta
        g_B[rows] = weights[d] * (delta.abs() if d == MEDIUM else signed.clamp(min=0))
    return torch.where(correct_B > 0, 0.0, -g_B), weights


class AresState(Component):
    """tau, and alpha and target of each difficulty. The reward proposes what holds from the next step on."""

    def __init__(self, alpha: float = 0.5) -> None:
        self.tau, self.batches = -1.0, 0
        self.alpha = [alpha] * len(DIFFICULTIES)
        self.target: list[float | None] = [None] * len(DIFFICULTIES)
        self._next: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"tau": self.tau, "batches": self.batches, "alpha": self.alpha, "target": self.target}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.tau, self.batches = float(state["tau"]), int(state["batches"])
        self.alpha, self.target = list(state["alpha"]), list(state["target"])

    def observe(self, threshold: float) -> None:
        """Take a batch's threshold into tau, for the rollouts that follow."""
        self.tau = 0.99 * self.tau + 0.01 * threshold if self.batches else threshold
        self.batches += 1

    def propose(self, threshold: float, alpha: list[float], target: Sequence[float | None]) -> None:
        self._next = {"threshold": threshold, "alpha": alpha, "target": target}

    def after_update(self, signals: Signals, ctx: StepContext) -> Mapping[str, float]:
        if self._next:
            self.observe(self._next["threshold"])
            self.alpha, self.target = self._next["alpha"], list(self._next["target"])
            self._next = {}
        return {}


def _by_name(name: str, values: Sequence[float]) -> dict[str, float]:
    return {f"ares/{name}_{d}": float(v) for d, v in zip(DIFFICULTIES, values, strict=True)}


@dataclass(frozen=True)
class CountedReward(Reward):
    """R of the official code."""

    state: AresState
    triggers: str
    window: int
    percentile: float
    top_k: int
    rate: float
    alpha_max: float

    @property
    def old_stats(self) -> tuple[TokenStat, ...]:  # type: ignore[override]
        return (TopToken(), TopEntropy(k=self.top_k), TopEntropy(k=self.top_k, tail=True))

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        cut, full = (batch.old[stat.name] for stat in self.old_stats[1:])
        own = sample_threshold(cut, batch.mask_BT, self.window, self.percentile)
        triggers = top_token_says(batch, ctx, self.triggers)
        count_B = counted(full, triggers, batch.mask_BT, self.window, self.state.tau).high_B
        level_B = difficulty(batch.correct_B, batch.group_B)
        means = bucket_means(count_B, batch.group_B, level_B)
        alpha = adapted_alpha(self.state.alpha, means, self.rate, 0.0, self.alpha_max)
        target = [0.0 if mean is None else float(round(mean)) for mean in means]
        self.state.propose(float(torch.quantile(own, 0.5)), alpha, target)
        target_B, alpha_B = (torch.tensor(v, dtype=count_B.dtype)[level_B] for v in (target, alpha))
        score = entropy_score(batch.correct_B, level_B, count_B, target_B, alpha_B)
        metrics = {
            "ares/tau": self.state.tau,
            "ares/triggers": float(triggers.sum(1).double().mean()),
            "ares/count": float(count_B.mean()),
            "ares/score": float(score.mean()),
        }
        shaped = batch.correct_B + score.to(batch.correct_B.dtype)
        return Out(shaped, metrics | _by_name("alpha", alpha) | _by_name("target", target))


@dataclass(frozen=True)
class PaperReward(Reward):
    """R of the paper; tau is this batch's: the mean of its responses' percentiles."""

    state: AresState
    triggers: str
    window: int
    percentile: float

    old_stats = (TopToken(), ENTROPY)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        tau = paper_tau(batch, self.percentile)
        triggers = top_token_says(batch, ctx, self.triggers)
        count_B = counted(batch.old["entropy"], triggers, batch.mask_BT, self.window, tau).high_B
        level_B = difficulty(batch.correct_B, batch.group_B)
        means = bucket_means(count_B, batch.group_B, level_B)
        known = [(m or 0.0) if t is None else t for t, m in zip(self.state.target, means, strict=True)]
        score, weights = paper_score(batch.correct_B, level_B, count_B, known)
        after = [t if m is None else m for t, m in zip(self.state.target, means, strict=True)]
        self.state.propose(tau, self.state.alpha, after)
        metrics = {
            "ares/tau": tau,
            "ares/triggers": float(triggers.sum(1).double().mean()),
            "ares/count": float(count_B.mean()),
            "ares/score": float(score.mean()),
        }
        shaped = batch.correct_B + score.to(batch.correct_B.dtype)
        return Out(shaped, metrics | _by_name("lambda", weights) | _by_name("target", known))


def paper_tau(batch: Batch, percentile: float) -> float:
    """Mean over the responses of a percentile of their tokens' entropies, nats."""
    return float(row_quantile(batch.old["entropy"], batch.mask_BT, percentile).double().mean())


@dataclass(frozen=True)
class RewardBand(GroupFilter):
    """Groups whose mean reward, or accuracy, lies strictly between ``low`` and ``high``."""

    shaped: bool
    low: float = 0.01
    high: float = 0.99

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        value = batch.rewards() if self.shaped else batch.correct_B
        mean = group_mean_std(value, batch.group_B)[0]
        return Out((mean > self.low) & (mean < self.high))


@dataclass(frozen=True)
class TagWindows(TagDifficulty):
    """Notes, too, which tokens lie behind a trigger in a window that counts."""

    triggers: str
    window: int
    percentile: float

    old_stats = (TopToken(), ENTROPY)
    writes_tags = frozenset({"difficulty", "in_window"})

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        tau = paper_tau(batch, self.percentile)
        mean, whole = following_mean(batch.old["entropy"], batch.mask_BT, self.window)
        opens = top_token_says(batch, ctx, self.triggers) & whole & (mean >= tau)
        inside = torch.zeros_like(opens)
        for ahead in range(1, self.window + 1):
            inside[:, ahead:] |= opens[:, : opens.shape[1] - ahead]
        tagged = super().__call__(batch, ctx).value.with_token_tags(in_window=inside)
        share = float((inside & batch.mask_BT).sum()) / max(int(batch.mask_BT.sum()), 1)
        return Out(tagged, {"ares/in_window": share})


@dataclass(frozen=True)
class ARES(ClippedMethod):
    """What both entries share."""

    triggers: str = hp(TRIGGERS, "words that open a window, separated by blanks (ours)")
    window: int = hp(4, "W, tokens behind a trigger whose mean entropy counts", ge=1)
    percentile: float = hp(95.0, "percentile that makes the threshold of entropy", gt=0, lt=100)
    kl_coef: float = hp(0.01, "weight of the KL to the reference, times beta of the difficulty", gt=0)
    kl_target: float = hp(0.01, "KL that the weights hold to, nats per token", gt=0)
    kl_interval: int = hp(100, "optimiser steps between changes of the KL's weights", ge=1)
    eps_high: float = hp(0.3, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)

    def validate(self, run: RunConfig) -> None:
        if run.rollout.group_size < 2:
            raise UserError("the accuracy of a group of one tells no difficulty; use rollout.group_size >= 2")
        if self.window >= run.rollout.max_response_tokens:
            raise UserError(
                f"no token has method.window={self.window} others behind it within "
                f"rollout.max_response_tokens={run.rollout.max_response_tokens}; lower the window"
            )
        if not self.triggers.split():
            raise UserError("method.triggers is empty, so nothing is ever counted; name words")

    def around(
        self, state: AresState, reward: Reward, selection: Selection, *, rho: float = 1.0, band: str = "none"
    ) -> Stages:
        weights = DifficultyWeights(KLRule(self.kl_target, self.kl_interval))
        loss = self.clipped_loss()
        stages = grpo_stages().with_(
            reward=reward,
            selection=selection,
            loss=loss,
            regularisers=(DifficultyKL(weights, self.kl_coef, rho),),
            components={"ares": state, "ares_kl": weights},
        )
        return stages if band == "none" else stages.with_(group_filter=RewardBand(band == "overall"))


@register("ares@released")
@dataclass(frozen=True)
class ARESReleased(ARES):
    """The official code, whose reward is not the paper's."""

    top_k: int = hp(10, "likeliest tokens that entropies are taken from", ge=2)
    alpha_start: float = hp(0.5, "size of the entropy score at the start", ge=0, le=2)
    alpha_rate: float = hp(0.05, "how fast it follows the counts", ge=0)
    alpha_max: float = hp(2.0, "its largest value", gt=0)
    online_filter: str = hp(
        "overall", "what a group's mean of must lie in (0.01, 0.99)", choices=("overall", "accuracy", "none")
    )

    def stages(self) -> Stages:
        state = AresState(self.alpha_start)
        reward = CountedReward(
            state, self.triggers, self.window, self.percentile, self.top_k, self.alpha_rate, self.alpha_max
        )
        return self.around(state, reward, TagDifficulty(), band=self.online_filter)


@register("ares@paper")
@dataclass(frozen=True)
class ARESPaper(ARES):
    """The paper's reward, without its branching rollouts; much of it reconstructed."""

    rho: float = hp(0.5, "weight of the KL inside windows that count; unverified", ge=0, lt=1)

    def stages(self) -> Stages:
        state = AresState()
        reward = PaperReward(state, self.triggers, self.window, self.percentile)
        tags = TagWindows(self.triggers, self.window, self.percentile)
        return self.around(state, reward, tags, rho=self.rho)
