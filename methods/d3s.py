r"""D3S: dynamic dual-level down-sampling (arXiv 2509.22115); the schedule's values are a RECONSTRUCTION.

Trains on the rollouts whose advantages vary most, and in them on the tokens of large |advantage| x entropy;
few at first, more and more of both as training goes on:

    A      the base method's advantage, normalised in each group before anything is selected, never again
    rows   the N rows of which A varies most: the N - h lowest and the h highest, with the best h of 0..N;
           of the whole step (``scope=batch``) or N in each group (``scope=group``)
    tokens the K % of all tokens of these rows with the largest |A_i| H_it, H the OLD policy's entropy
    (N, K) = (1 - p) (N_init, K_init) + p (N_final, K_final),   p the share of the run that is used

then the base's loss on these tokens, divided by their number. Groups whose rewards are all equal are left out
first: their variance is 0, and any subset of them is as good as another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    ENTROPY,
    Batch,
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    RunConfig,
    Selection,
    Stages,
    StepContext,
    grpo_stages,
    hp,
    largest,
    refuse_lone_rollouts,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


def scheduled(first: float, last: float, progress: float) -> float:
    """The value at ``progress`` in [0, 1]."""
    return (1 - progress) * first + progress * last


def half_up(number: float) -> int:
    """The nearest whole number, at least 1; a half goes up, and so does what only rounding keeps below it."""
    return max(1, math.floor(number + 0.5 + 1e-9))


def widest(value_N: Tensor, k: int) -> Tensor:
    """Bool ``[N]``: the ``k`` values of largest variance, some of the lowest and some of the highest.

    Of equal variances that with the fewest high ones; of equal values the later is the higher.
    """
    order = value_N.argsort(stable=True)
    ordered, n = value_N.double()[order], len(value_N)
    k = min(k, n)
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    squares = torch.cat([ordered.new_zeros(1), (ordered**2).cumsum(0)])
    high = torch.arange(k + 1)
    mean, square = (
        (part[k - high] + part[n] - part[n - high]) / max(k, 1) for part in (sums, squares)
    )  # fmt: skip
    variance = square - mean**2
    best = int((variance >= variance.max() - 1e-12 * squares[-1]).nonzero()[0])
    chosen = torch.zeros(n, dtype=torch.bool)
    chosen[order[: k - best]] = True
    chosen[order[n - best :]] = True
    return chosen


def with_contrast(advantage_B: Tensor, group_B: Tensor) -> Tensor:
    """Bool ``[B]``: rows of groups whose advantages are not all equal."""
    kept = torch.zeros(len(advantage_B), dtype=torch.bool)
    for group in torch.unique(group_B):
        own = group_B == group
        kept[own] = bool((advantage_B[own] != advantage_B[own][0]).any())
    return kept


def widest_in_groups(advantage_B: Tensor, group_B: Tensor, k: int) -> Tensor:
    """:func:`widest` of each group, bool ``[B]``."""
    chosen = torch.zeros(len(advantage_B), dtype=torch.bool)
    for group in torch.unique(group_B):
        rows = (group_B == group).nonzero().flatten()
        chosen[rows[widest(advantage_B[rows], k)]] = True
    return chosen


def token_scores(advantage_B: Tensor, entropy_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """|A| H on response tokens, ``[B,T]``."""
    return advantage_B.abs()[:, None] * entropy_BT * mask_BT


def best_tokens(score_BT: Tensor, mask_BT: Tensor, share: float) -> Tensor:
    """Bool ``[B,T]``: the ``share`` of the mask's tokens that score highest; of equal ones the earlier."""
    mask = mask_BT.bool()
    return largest(score_BT, mask, half_up(share * int(mask.sum())))


@dataclass(frozen=True)
class DownSample(Selection):
    """Rows and tokens above; a row none of whose tokens is kept takes no pass."""

    rows_start: float
    rows_end: float
    tokens_start: float
    tokens_end: float
    scope: str = "batch"

    old_stats = (ENTROPY,)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        # A rollout has one advantage on all its tokens; every response has a first token.
        size, mixed = len(batch), with_contrast(batch.advantages()[:, 0], batch.group_B)
        batch = batch.rows(mixed)
        if not len(batch):
            return Out(batch, {"d3s/rows": 0.0, "d3s/tokens": 0.0})
        advantage_B = batch.advantages()[:, 0]
        rows = scheduled(self.rows_start, self.rows_end, ctx.started)
        share = scheduled(self.tokens_start, self.tokens_end, ctx.started)
        if self.scope == "batch":
            chosen_B = widest(advantage_B, half_up(rows * size))
        else:
            chosen_B = widest_in_groups(advantage_B, batch.group_B, half_up(rows * ctx.group_size))
        batch, advantage_B = batch.rows(chosen_B), advantage_B[chosen_B]
        score_BT = token_scores(advantage_B, batch.old["entropy"], batch.train_mask_BT)
        kept_BT = best_tokens(score_BT, batch.train_mask_BT, share)
        metrics = {
            "d3s/rows": len(batch) / size,
            "d3s/tokens": float(kept_BT.sum()) / max(int(batch.train_mask_BT.sum()), 1),
            "d3s/variance": float(advantage_B.double().var(correction=0)),
        }
        return Out(batch.with_(loss_mask_BT=kept_BT).rows(kept_BT.any(1)), metrics)


@register("d3s")
@dataclass(frozen=True)
class D3S(Method):
    """GRPO on the rollouts and tokens that its gradient has most of, more and more of them."""

    rows_start: float = hp(0.5, "N_init, share of a step's rollouts (ours)", gt=0, le=1)
    rows_end: float = hp(1.0, "N_final (ours)", gt=0, le=1)
    tokens_start: float = hp(0.2, "K_init, share of the tokens of these rollouts (ours)", gt=0, le=1)
    tokens_end: float = hp(1.0, "K_final (ours)", gt=0, le=1)
    scope: str = hp(
        "batch", "where rollouts are chosen: of the whole step, or in each group", choices=("batch", "group")
    )
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    aggregation: str = hp("token-mean", "reduction of the losses of the kept tokens", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        refuse_lone_rollouts(run, "d3s selects by how advantages vary")

    def stages(self) -> Stages:
        return grpo_stages().with_(
            selection=DownSample(
                self.rows_start, self.rows_end, self.tokens_start, self.tokens_end, self.scope
            ),
            loss=PolicyLoss(bounds=FixedBounds(self.eps_low, self.eps_high), aggregation=self.aggregation),
        )
