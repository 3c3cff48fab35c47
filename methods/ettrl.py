r"""ETTRL: TTRL with forked rollouts and advantages reshaped by entropy (arXiv 2508.11356).

ETMR, in the place of independent rollouts: of a prompt's G = rollout.group_size leaves, M = G // (1 + B N)
are roots, rollouts that fork; at each of a root's N positions of highest entropy H_t, B continuations of what
is before it are drawn to the end. What G leaves over are plain rollouts. All leaves vote as in TTRL.

EAR, on TTRL's advantage A of the leaves that train, h_i the mean entropy of leaf i over all its tokens, those
before its fork included:

    residual   A' = Y A,   Y = 1 + (mean_g h - h_i) / max(mean_g h, 1e-8)     confident leaves count more
    clip       A' = clip(A, -beta, beta)

Y is no function of the policy for the gradient, and turns negative where h_i is over twice the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    ENTROPY,
    Advantage,
    Batch,
    Branching,
    Draw,
    Generate,
    Out,
    Program,
    Prompt,
    RunConfig,
    Stages,
    StepContext,
    UserError,
    Verify,
    advantage_of,
    concat,
    first_of_group,
    highest_positions,
    hp,
    register,
    rows_by_group,
    scores_of,
)
from methods.ttrl import TTRL

if TYPE_CHECKING:
    from torch import Tensor

RESHAPES = ("residual", "clip", "none")


def response_entropy(
    entropy_BT: Tensor, mask_BT: Tensor, before_B: Tensor | float = 0.0, tokens_B: Tensor | float = 0.0
) -> Tensor:
    """h: mean entropy of each response, ``[B]``.

    Args:
        before_B: sum of the entropies of what a branch keeps.
        tokens_B: number of its tokens.
    """
    mask = mask_BT.to(entropy_BT.dtype)
    return ((entropy_BT * mask).sum(1) + before_B) / (mask.sum(1) + tokens_B).clamp(min=1)


def residual(h_B: Tensor, group_B: Tensor, floor: float = 1e-8) -> Tensor:
    """Y, ``[B]``, float64."""
    factor_B = torch.ones(len(h_B), dtype=torch.float64)
    for rows in rows_by_group(group_B):
        own = h_B[rows].double()
        factor_B[rows] = 1 + (own.mean() - own) / own.mean().clamp(min=floor)
    return factor_B


def trees_of(group_size: int, forks: int, branches: int) -> tuple[int, int]:
    """M, and the number of rollouts that are drawn from the bare prompt."""
    leaves = 1 + forks * branches
    trees = group_size // leaves
    return trees, group_size - trees * (leaves - 1)


@dataclass(frozen=True)
class ForkedRollout(Branching):
    """ETMR; the leaves of a tree stand together, its root first."""

    forks: int
    branches_each: int

    writes_tags = Branching.writes_tags | {"prefix_entropy"}

    def run(self, ctx: StepContext) -> Program:
        trees, plain = trees_of(ctx.group_size, self.forks, self.branches_each)
        problems = yield Draw(ctx.prompts_per_step)
        prompts = [Prompt(problem, group) for group, problem in enumerate(problems)]
        roots = yield Generate(prompts, plain)
        roots = self.rooted(roots)
        if not self.forks:
            return (yield Verify(roots))
        entropy_BT = (yield from scores_of(roots, (ENTROPY,)))[ENTROPY.name]
        places = highest_positions(entropy_BT, roots.mask_BT, self.forks)
        rows, cuts = list[int](), list[int]()
        for row in (roots.sample_B < trees).nonzero().flatten().tolist():
            # of a root with fewer tokens the other forks are at its start, so that all leaves are there
            found = [*places[row], *[0] * (self.forks - len(places[row]))]
            rows += [row] * self.forks
            cuts += found
        leaves = yield from self.branches(roots, rows, cuts, self.branches_each)
        sums = [float(entropy_BT[row, :cut].sum()) for row, cut in zip(rows, cuts, strict=True)]
        before = torch.tensor(sums)
        roots = roots.with_tags(prefix_entropy=torch.zeros(len(roots)))
        leaves = leaves.with_tags(prefix_entropy=before.repeat_interleave(self.branches_each))
        batch = concat([roots, leaves])
        tree_B = torch.where(batch.tag("level") > 0, batch.tag("parent").long(), batch.sample_B)
        order = (batch.group_B * ctx.group_size + tree_B).argsort(stable=True)
        return (yield Verify(batch.rows(order)))


@dataclass(frozen=True)
class ReshapedAdvantage(Advantage):
    """EAR of TTRL's advantage; 0 on rows that only vote."""

    share: float
    reshape: str
    beta: float

    old_stats = (ENTROPY,)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        keep_B = first_of_group(batch.group_B, self.share)
        advantage_B = advantage_of(batch.rewards(), batch.group_B, keep_B)
        if self.reshape == "clip":
            return Out(advantage_B.clamp(-self.beta, self.beta))
        if self.reshape == "none":
            return Out(advantage_B)
        before_B, tokens_B = batch.tag("prefix_entropy"), batch.tag("cut")
        h_B = response_entropy(batch.old["entropy"], batch.mask_BT, before_B, tokens_B)
        factor_B = torch.ones(len(batch), dtype=torch.float64)
        factor_B[keep_B] = residual(h_B[keep_B], batch.group_B[keep_B])
        metrics = {"ettrl/negative_factor": float((factor_B[keep_B] < 0).double().mean())}
        return Out((factor_B * advantage_B).to(advantage_B.dtype), metrics)


@register("ettrl")
@dataclass(frozen=True)
class ETTRL(TTRL):
    """Majority votes of forked rollouts, and less weight for uncertain ones."""

    forks: int = hp(2, "N, positions at which a root forks; 0: TTRL's independent rollouts", ge=0)
    branches: int = hp(2, "B, continuations at each of them", ge=1)
    reshape: str = hp("residual", "EAR: Adv-Res, Adv-Clip, or none", choices=RESHAPES)
    beta: float = hp(2.0, "bound of Adv-Clip", gt=0)

    def validate(self, run: RunConfig) -> None:
        super().validate(run)
        size, leaves = run.rollout.group_size, 1 + self.forks * self.branches
        if size < leaves:
            raise UserError(
                f"a root with method.forks={self.forks} and method.branches={self.branches} has {leaves} "
                f"leaves, more than rollout.group_size={size}; raise that or lower one of them"
            )

    def stages(self) -> Stages:
        return (
            super()
            .stages()
            .with_(
                rollout=ForkedRollout(self.forks, self.branches),
                advantage=ReshapedAdvantage(self.train_share, self.reshape, self.beta),
            )
        )
