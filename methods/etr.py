r"""ETR: outcome-guided elastic trust regions (arXiv 2601.03723) - a RECONSTRUCTION, see the card.

    eps_i = eps_0 (1 + k_micro |A_i|)                               macro: implicit
    eps_i = eps_0 (1 + k_micro |A_i|) (1 + k_macro 4 v_g)           macro: explicit, v_g = p_g (1 - p_g)
    eps_high,i = eps_i,   eps_low,i = min(eps_i, cap)

per rollout i of group g with pass rate p_g; the bounds are constants of the update. Then GRPO's clipped loss
with 1 - eps_low,i and 1 + eps_high,i. From the abstract: bounds scale with |A| and the group's pass-rate
variance governs the budget. Every function and number above is ours (see the card).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    Batch,
    Bounds,
    Method,
    Out,
    PolicyLoss,
    RunConfig,
    Selection,
    Stages,
    Stats,
    StepContext,
    grpo_stages,
    hp,
    refuse_single_update,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


def pass_rate(correct_B: Tensor, group_B: Tensor) -> Tensor:
    """p_g: share of correct rollouts in each row's group, ``[B]``."""
    _, index_B = torch.unique(group_B, return_inverse=True)
    total = torch.zeros(int(index_B.max()) + 1 if len(index_B) else 0, dtype=correct_B.dtype)
    right = total.index_add(0, index_B, correct_B)
    return (right / total.index_add(0, index_B, torch.ones_like(correct_B)))[index_B]


def pass_variance(correct_B: Tensor, group_B: Tensor) -> Tensor:
    """v_g = p_g (1 - p_g), the population variance of the verdict, ``[B]``."""
    p = pass_rate(correct_B, group_B)
    return p * (1 - p)


def elastic_bounds(
    advantage_B: Tensor, variance_B: Tensor, eps_0: float, k_micro: float, k_macro: float, cap: float
) -> tuple[Tensor, Tensor]:
    """(eps_low, eps_high), ``[B]`` each; ``k_macro = 0`` is the implicit form."""
    eps = eps_0 * (1 + k_micro * advantage_B.abs()) * (1 + k_macro * 4 * variance_B)
    return eps.clamp(max=cap), eps


@dataclass(frozen=True)
class TagPassVariance(Selection):
    """Keeps every row; notes v_g while whole groups are at hand (a minibatch may cut them)."""

    writes_tags = frozenset({"pass_variance"})

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        return Out(batch.with_tags(pass_variance=pass_variance(batch.correct_B, batch.group_B)))


@dataclass(frozen=True)
class ElasticBounds(Bounds):
    """Ratio bounds of each row."""

    eps_0: float
    k_micro: float
    k_macro: float
    cap: float

    reads_tags = frozenset({"pass_variance"})

    def __call__(self, batch: Batch, current: Stats) -> Out[tuple[Tensor, Tensor]]:
        # A rollout's advantage is the same on all its tokens and 0 on padding. In float64, so that k = 0
        # gives exactly GRPO's bounds after rounding.
        advantage_B = batch.advantages().double().abs().amax(1)
        low, high = elastic_bounds(
            advantage_B,
            batch.tags["pass_variance"].double(),
            self.eps_0,
            self.k_micro,
            self.k_macro,
            self.cap,
        )
        dtype = current["logp"].dtype
        return Out(((1 - low).to(dtype), (1 + high).to(dtype)), {"etr/eps_mean": float(high.mean())})


@register("etr")
@dataclass(frozen=True)
class ETR(Method):
    """GRPO with a clip range per rollout."""

    eps_0: float = hp(0.2, "clip range at A = 0", gt=0)
    k_micro: float = hp(0.5, "growth of the range with |A| (ours)", ge=0)
    macro: str = hp("implicit", "pass-rate variance as a factor or not", choices=("implicit", "explicit"))
    k_macro: float = hp(0.5, "growth of the range with 4 p (1 - p), explicit only (ours)", ge=0)
    cap: float = hp(0.9, "largest clip range below 1 (ours)", gt=0, lt=1)
    aggregation: str = hp("seq-mean-token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        refuse_single_update(run, "every ratio at 1, so ETR does nothing")

    def stages(self) -> Stages:
        k_macro = self.k_macro if self.macro == "explicit" else 0.0
        return grpo_stages().with_(
            selection=TagPassVariance(),
            loss=PolicyLoss(
                bounds=ElasticBounds(self.eps_0, self.k_micro, k_macro, self.cap),
                aggregation=self.aggregation,
            ),
        )
