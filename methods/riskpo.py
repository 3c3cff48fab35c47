r"""RiskPO: risk-based policy optimisation with a mixed value-at-risk (arXiv 2510.00911).

``bundle_size`` prompts form a bundle, the k-th rollouts of its prompts a paper with the score S_k, the sum of
their rewards s. Instead of the mean a mixture of a lower-tail and a middle-range measure of S is raised. With
thresholds tau_d and tau_u at the levels a and b of the scores, and sigma their std (ddof 1; 1 for one paper):

    R_k = ((S_k - tau_d)+ - (S_k - tau_u)+ [+ tau_d - tau_u]) / (b - a + 1e-6)             middle range (RVaR)
    C_k = -(tau_d - S_k)+ / (a + 1e-6)                                                     lower tail (CVaR)
    A_k = (w C_k + R_k) / (w + 1), divided by sigma + 1e-6

and each rollout i of paper k, of a prompt with mean m_i and std d_i of its rewards, gets as ``credit``

    uniform   A_k                         std    A_k / (d_i + 1e-6), d_i = 1 where it is at most 1e-3
    score     0.5 A_k if s_i > 0, else 1.5 A_k
    sum-mean  A_k rho_i / sum rho with rho_i = s_i - m_i; A_k / (number of prompts) where |sum rho| <= 1e-6

``carry_tracker`` keeps 19 quantiles q of all papers' scores from step to step, as the paper describes,
q <- q + lr_q (level - mean[S < q]); the released trainer forgets them after each step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from entrobench import (
    Advantage,
    Batch,
    ClippedMethod,
    Component,
    Out,
    RunConfig,
    Signals,
    Stages,
    StepContext,
    UserError,
    group_mean_std,
    grpo_stages,
    hp,
    refuse_lone_rollouts,
    register,
    rows_by_group,
    tied,
)

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-6
MEASURES = ("mixed", "middle", "upper")
CREDITS = ("uniform", "std", "score", "sum-mean")
THRESHOLDS = ("batch", "track", "mix")
#: The levels of the quantiles that are tracked.
LEVELS = tuple((j + 1) / 20 for j in range(19))


def own_thresholds(score_K: Tensor, down: float, up: float) -> tuple[float, float]:
    """tau_d and tau_u from a bundle's own scores, linear between them."""
    low, high = torch.quantile(score_K, torch.tensor([down, up], dtype=score_K.dtype)).tolist()
    return low, high


def thresholds(
    score_K: Tensor, down: float, up: float, tracked: tuple[float, float] | None, mode: str
) -> tuple[float, float]:
    """tau_d and tau_u: the bundle's own (``batch``), the ``tracked``, or the mean of both (``mix``).

    The bundle's own where nothing is tracked.
    """
    if mode not in THRESHOLDS:
        raise ValueError(f"unknown thresholds '{mode}'; choose one of {', '.join(THRESHOLDS)}")
    own = own_thresholds(score_K, down, up)
    if tracked is None or mode == "batch":
        return own
    return tracked if mode == "track" else ((own[0] + tracked[0]) / 2, (own[1] + tracked[1]) / 2)


def middle_range(score_K: Tensor, low: float, high: float) -> Tensor:
    """(S - tau_d)+ - (S - tau_u)+."""
    return (score_K - low).clamp(min=0) - (score_K - high).clamp(min=0)


def lower_tail(score_K: Tensor, low: float) -> Tensor:
    """-(tau_d - S)+."""
    return -(low - score_K).clamp(min=0)


@dataclass(frozen=True)
class Risk:
    """The measure of a paper's score: A_k, and what of it is chosen.

    Attributes:
        measure: ``mixed`` with the lower tail, weight ``weight``; ``middle`` alone; ``upper``, with the upper
            tail (S_k - tau_u)+ / (1 - b + 1e-6) instead, an ablation.
        natural: tau_d - tau_u is added, so that no score of the middle range is better than 0.
    """

    down: float = 0.2
    up: float = 0.8
    measure: str = "mixed"
    weight: float = 1.5
    natural: bool = False
    norm_by_std: bool = True
    eps: float = EPS

    def advantages(
        self, score_K: Tensor, low: float, high: float, mean: float = 0.0, tail_mean: float = 0.0
    ) -> Tensor:
        """A, ``[K]``; ``mean`` is taken from the middle range, ``tail_mean`` from the lower tail."""
        shift = (low - high if self.natural else 0.0) - mean
        risk_K = (middle_range(score_K, low, high) + shift) / (self.up - self.down + self.eps)
        if self.measure == "mixed":
            tail_K = (lower_tail(score_K, low) - tail_mean) / (self.down + self.eps)
            risk_K = (self.weight * tail_K + risk_K) / (self.weight + 1)
        elif self.measure == "upper":
            tail_K = (score_K - high).clamp(min=0) / (1 - self.up + self.eps)
            risk_K = (self.weight * tail_K + risk_K) / (self.weight + 1)
        if self.norm_by_std:
            sigma = score_K.std() if len(score_K) > 1 else torch.ones((), dtype=score_K.dtype)
            risk_K = risk_K / (sigma + self.eps)
        return risk_K


def credited(
    risk_K: Tensor, reward_QK: Tensor, mean_QK: Tensor, std_QK: Tensor, credit: str, eps: float = EPS
) -> Tensor:
    """What the rollouts of a paper get of its A, ``[Q,K]``; ``mean_QK`` and ``std_QK`` are of the prompt."""
    if credit == "uniform":
        return risk_K.expand_as(reward_QK)
    if credit == "std":
        return risk_K / (std_QK.where(std_QK > 1e-3, 1.0) + eps)
    if credit == "score":
        return risk_K * torch.where(reward_QK > 0, 0.5, 1.5)
    if credit != "sum-mean":
        raise ValueError(f"unknown credit '{credit}'; choose one of {', '.join(CREDITS)}")
    rho_QK = reward_QK - mean_QK
    total_K = rho_QK.sum(0)
    there_K = total_K.abs() > 1e-6
    share_QK = rho_QK / torch.where(there_K, total_K, 1.0)
    return risk_K * torch.where(there_K, share_QK, 1.0 / len(reward_QK))


def question_means(reward_B: Tensor, group_B: Tensor) -> Tensor:
    """m of each row's prompt, ``[B]`` float64; of a lone rollout it is its own reward, so that rho is 0."""
    mean_B = torch.empty(len(reward_B), dtype=torch.float64)
    for rows in rows_by_group(group_B):
        mean_B[rows] = reward_B[rows].double().mean()
    return mean_B


def paper_scores(reward_B: Tensor, rows_QK: Tensor) -> Tensor:
    """S, ``[K]`` float64."""
    return reward_B.double()[rows_QK].sum(0)


def moved_quantiles(quantile_J: Tensor, score_N: Tensor, lr: float) -> Tensor:
    """One step of the tracked quantiles towards the scores', ``[J]``."""
    level_J = torch.tensor(LEVELS, dtype=quantile_J.dtype)
    below_J = (score_N[None] < quantile_J[:, None]).to(quantile_J.dtype).mean(1)
    return quantile_J + lr * (level_J - below_J)


def first_quantiles(score_N: Tensor) -> Tensor:
    """The scores' own quantiles at the levels, ``[J]``."""
    return torch.quantile(score_N, torch.tensor(LEVELS, dtype=score_N.dtype))


class QuantileTracker(Component):
    """Quantiles of all papers' scores, from the first step's on."""

    def __init__(self, bundle_size: int, lr: float) -> None:
        self.bundle_size, self.lr = bundle_size, lr
        self.quantiles: list[float] | None = None
        self._scores: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"quantiles": self.quantiles}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.quantiles = state["quantiles"]

    def at(self, down: float, up: float) -> tuple[float, float] | None:
        """The quantiles of the levels nearest to ``down`` and ``up``; None in the first step."""
        if self.quantiles is None:
            return None
        near = (min(range(len(LEVELS)), key=lambda j: abs(LEVELS[j] - level)) for level in (down, up))
        low, high = (self.quantiles[j] for j in near)
        return low, high

    def middle_mean(self, low: float, high: float) -> float:
        """The middle range integrated over the levels at the tracked quantiles; 0 in the first step."""
        return self._mean(lambda score_J: middle_range(score_J, low, high))

    def tail_mean(self, low: float) -> float:
        """The lower tail, integrated in the same way."""
        return self._mean(lambda score_J: lower_tail(score_J, low))

    def _mean(self, of: Callable[[Tensor], Tensor]) -> float:
        if self.quantiles is None:
            return 0.0
        values = of(torch.tensor(self.quantiles, dtype=torch.float64))
        return float(torch.trapezoid(values, torch.tensor(LEVELS, dtype=torch.float64)))

    def before_update(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        rows = tied(batch.group_B, self.bundle_size)
        self._scores = torch.cat([paper_scores(batch.rewards(), own) for own in rows])
        return {}

    def after_update(self, signals: Signals, ctx: StepContext) -> Mapping[str, float]:
        """Move with the scores of this step, whose advantages are taken already."""
        assert self._scores is not None
        if self.quantiles is None:
            self.quantiles = first_quantiles(self._scores).tolist()
        else:
            old = torch.tensor(self.quantiles, dtype=torch.float64)
            self.quantiles = moved_quantiles(old, self._scores, self.lr).tolist()
        return {"riskpo/tracked_median": self.quantiles[len(LEVELS) // 2]}


@dataclass(frozen=True)
class BundleRisk(Advantage):
    """The advantages above; rollouts beyond the smallest group of their bundle get 0."""

    risk: Risk
    bundle_size: int
    credit: str = "sum-mean"
    mode: str = "track"
    tracker: QuantileTracker | None = None
    mean_baseline: bool = False

    def tracked(self) -> tuple[float, float] | None:
        return self.tracker.at(self.risk.down, self.risk.up) if self.tracker else None

    def tracked_means(self, tracked: tuple[float, float] | None) -> tuple[float, float]:
        """Means of middle range and lower tail at the tracked thresholds, whatever a bundle's own are."""
        if not (self.tracker and self.mean_baseline and tracked):
            return 0.0, 0.0
        return self.tracker.middle_mean(*tracked), self.tracker.tail_mean(tracked[0])

    def of(self, reward_B: Tensor, group_B: Tensor, tracked: tuple[float, float] | None) -> Out[Tensor]:
        """``[B]``, with thresholds ``tracked`` where the mode wants them and they are there."""
        mean_B, std_B = question_means(reward_B, group_B), group_mean_std(reward_B.double(), group_B)[1]
        means = self.tracked_means(tracked)
        advantage_B = torch.zeros(len(reward_B), dtype=torch.float64)
        limits = []
        for rows_QK in tied(group_B, self.bundle_size):
            score_K = paper_scores(reward_B, rows_QK)
            low, high = thresholds(score_K, self.risk.down, self.risk.up, tracked, self.mode)
            risk_K = self.risk.advantages(score_K, low, high, *means)
            own = reward_B.double()[rows_QK]
            made = credited(risk_K, own, mean_B[rows_QK], std_B[rows_QK], self.credit, self.risk.eps)
            advantage_B[rows_QK] = made
            limits.append((low, high))
        low, high = torch.tensor(limits).mean(0).tolist()
        metrics = {"riskpo/bundles": float(len(limits)), "riskpo/tau_down": low, "riskpo/tau_up": high}
        return Out(advantage_B.to(reward_B.dtype), metrics)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        return self.of(batch.rewards(), batch.group_B, self.tracked())


@register("riskpo")
@dataclass(frozen=True)
class RiskPO(ClippedMethod):
    """GRPO's loss on the risk of bundles of prompts: their hard papers weigh more than their good ones."""

    bundle_size: int = hp(5, "prompts in a bundle; the last may have fewer", ge=1)
    quantile_down: float = hp(0.2, "a, level below which the lower tail is", gt=0, lt=1)
    quantile_up: float = hp(
        0.8, "b, level of the best score that counts (0.9 in the easy script)", gt=0, lt=1
    )
    measure: str = hp(
        "mixed", "lower tail and middle range, the latter alone, or upper tail", choices=MEASURES
    )
    w_mix: float = hp(1.5, "weight of the tail beside the middle range", ge=0)
    natural_baseline: bool = hp(False, "add tau_d - tau_u to the middle range (on in the easy script)")
    norm_by_std: bool = hp(True, "divide by the std of the bundle's scores")
    credit: str = hp("sum-mean", "what a rollout gets of its paper (std in the easy script)", choices=CREDITS)
    thresholds: str = hp("track", "tau of the bundle, tracked, or the mean of both", choices=THRESHOLDS)
    carry_tracker: bool = hp(False, "keep the tracked quantiles from step to step, as the paper describes")
    lr_q: float = hp(0.1, "step of the tracked quantiles, in units of reward", gt=0)
    mean_baseline: bool = hp(
        False, "take the tracked means from middle range and lower tail; needs carry_tracker"
    )
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)

    def validate(self, run: RunConfig) -> None:
        if self.quantile_down >= self.quantile_up:
            raise UserError("method.quantile_down must be below method.quantile_up")
        if self.mean_baseline and not self.carry_tracker:
            raise UserError("method.mean_baseline needs what is tracked; set method.carry_tracker=true, too")
        if self.carry_tracker and self.thresholds == "batch" and not self.mean_baseline:
            raise UserError(
                "method.carry_tracker tracks what method.thresholds=batch does not read; use track or mix"
            )
        refuse_lone_rollouts(run, "riskpo compares the papers of a bundle, one for each rollout of a prompt")

    def stages(self) -> Stages:
        risk = Risk(
            self.quantile_down, self.quantile_up, self.measure, self.w_mix, self.natural_baseline,
            self.norm_by_std,
        )  # fmt: skip
        tracker = QuantileTracker(self.bundle_size, self.lr_q) if self.carry_tracker else None
        return grpo_stages().with_(
            advantage=BundleRisk(
                risk, self.bundle_size, self.credit, self.thresholds, tracker, self.mean_baseline
            ),
            loss=self.clipped_loss(),
            components={"riskpo": tracker} if tracker else {},
        )
