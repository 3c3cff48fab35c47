r"""DAPO: decoupled clip and dynamic sampling policy optimisation (arXiv 2503.14476).

Four changes to GRPO: clip-higher (eps_low 0.2, eps_high 0.28), the token mean, groups whose verdicts are
all equal are replaced by freshly sampled ones, and a soft penalty on over-long responses (eq. 13)

    R = +-1 + min(-(len - (L_max - L_cache)) / L_cache * factor, 0).

The filter looks at verdicts, never at the shaped reward: a length penalty would make every group mixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    Batch,
    Draw,
    FixedBounds,
    Generate,
    GroupFilter,
    Method,
    Out,
    PolicyLoss,
    Program,
    Prompt,
    Reward,
    RolloutProgram,
    RunConfig,
    Stages,
    StepContext,
    UserError,
    Verify,
    concat,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


def overlong_penalty(length_B: Tensor, max_tokens: float, cache_tokens: float, factor: float = 1.0) -> Tensor:
    """Soft overlong punishment, ``[B]``: from 0 at ``max - cache`` tokens to ``-factor`` at ``max``."""
    over = length_B - (max_tokens - cache_tokens)
    return (-over / cache_tokens * factor).clamp(max=0)


def mixed_groups(correct_B: Tensor, group_B: Tensor) -> Tensor:
    """Bool ``[B]``: rows of groups with right and wrong responses; a group of one row counts as mixed."""
    _, index_B, count = torch.unique(group_B, return_inverse=True, return_counts=True)
    right = torch.zeros(len(count), dtype=correct_B.dtype).index_add(0, index_B, correct_B)
    return (((right > 0) & (right < count)) | (count == 1))[index_B]


@dataclass(frozen=True)
class SoftOverlong(Reward):
    """``right`` or ``wrong``, plus the penalty over the last ``cache_fraction`` of the token limit."""

    right: float
    wrong: float
    cache_fraction: float
    factor: float

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        cache = max(round(self.cache_fraction * ctx.max_response_tokens), 1)
        penalty = overlong_penalty(batch.length_B, ctx.max_response_tokens, cache, self.factor)
        base = self.wrong + (self.right - self.wrong) * batch.correct_B
        return Out(base + penalty, {"dapo/overlong_penalty": float(penalty.mean())})


@dataclass(frozen=True)
class MixedGroups(GroupFilter):
    """Drops what dynamic sampling could not replace: nothing but mixed groups trains."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        keep = mixed_groups(batch.correct_B, batch.group_B)
        groups = len(torch.unique(batch.group_B[keep]))
        refill = batch.tags.get("extra", torch.zeros(len(batch)))[keep]
        return Out(
            keep,
            {
                "dapo/missing_groups": float(ctx.prompts_per_step - groups),
                "dapo/refill_share": float(refill.sum()) / max(len(refill), 1),
            },
        )


@dataclass(frozen=True)
class DynamicSampling(RolloutProgram):
    """Rounds of ``gen_factor * prompts_per_step`` prompts until enough mixed groups are kept.

    The surplus of the last round is thrown away, as in the recipe. Later rounds are tagged ``extra``.
    """

    gen_factor: float
    max_gen_batches: int

    writes_tags = frozenset({"extra"})

    def kept(self, batch: Batch, ctx: StepContext) -> Tensor:
        """Bool ``[B]``: rows of the groups that are good enough."""
        return mixed_groups(batch.correct_B, batch.group_B)

    def run(self, ctx: StepContext) -> Program:
        per_round = max(round(self.gen_factor * ctx.prompts_per_step), 1)
        kept: list[Batch] = []
        first: Batch | None = None
        n_groups = 0
        for round_ in range(self.max_gen_batches):
            problems = yield Draw(per_round)
            # Later rounds may meet a problem again: another stream gives them other samples.
            prompts = [Prompt(p, round_ * per_round + i, stream=round_) for i, p in enumerate(problems)]
            batch = yield Generate(prompts, ctx.group_size)
            batch = yield Verify(batch)
            batch = batch.with_tags(extra=torch.full((len(batch),), float(round_ > 0)))
            first = batch if first is None else first
            mixed = batch.rows(self.kept(batch, ctx))
            if len(mixed):
                kept.append(mixed)
            n_groups += len(torch.unique(mixed.group_B))
            if n_groups >= ctx.prompts_per_step:
                break
        assert first is not None
        # With no mixed group at all the first round goes on, and the group filter drops every row of it.
        batch = concat(kept) if kept else first
        return batch.rows(torch.isin(batch.group_B, torch.unique(batch.group_B)[: ctx.prompts_per_step]))


@register("dapo")
@dataclass(frozen=True)
class DAPO(Method):
    """Clip-higher, token mean, dynamic sampling, soft overlong penalty; each can be set apart."""

    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.28, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(10.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)
    dynamic_sampling: bool = hp(True, "replace groups whose verdicts are all equal")
    gen_factor: float = hp(3.0, "prompts of a generation round, in units of prompts_per_step", gt=0)
    max_gen_batches: int = hp(10, "generation rounds of a step at most", ge=1)
    overlong_fraction: float = hp(0.2, "L_cache as a share of max_response_tokens (4096 / 20480)", gt=0, le=1)
    overlong_factor: float = hp(1.0, "size of the overlong penalty; 0 is none", ge=0)
    reward_right: float = hp(1.0, "reward of a correct response")
    reward_wrong: float = hp(-1.0, "reward of any other response")

    def validate(self, run: RunConfig) -> None:
        if self.reward_right <= self.reward_wrong:
            raise UserError("method.reward_right must exceed method.reward_wrong")
        if self.dynamic_sampling and run.rollout.group_size < 2:
            raise UserError("dynamic sampling needs groups; use rollout.group_size >= 2")

    def stages(self) -> Stages:
        stages = grpo_stages().with_(
            reward=SoftOverlong(
                self.reward_right, self.reward_wrong, self.overlong_fraction, self.overlong_factor
            ),
            loss=PolicyLoss(
                bounds=FixedBounds(self.eps_low, self.eps_high),
                dual_clip=self.dual_clip,
                aggregation=self.aggregation,
            ),
        )
        if not self.dynamic_sampling:
            return stages
        return stages.with_(
            rollout=DynamicSampling(self.gen_factor, self.max_gen_batches), group_filter=MixedGroups()
        )
