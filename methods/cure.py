r"""CURE: critical-token-guided re-concatenation (arXiv 2508.11016).

First part of the run, for each prompt with G = rollout.group_size rollouts:

    draw G / (1 + n2) responses y; H_t is the entropy of the policy at each of their tokens
    candidates of y: the critical_top_k positions of largest H_t, without position 0 and without tokens whose
        text, stripped of blanks, has fewer than min_text characters (2; special tokens have none)
    c uniform among them (none: c = 0);  draw n2 responses to  prompt + y[:c], so y_c itself is drawn anew
    one group of all of them, originals first

Then plain DAPO with the same G, after the optimiser has been started afresh, to consolidate. The update is
DAPO's throughout (its advantages, dynamic sampling, overlong penalty, clipped loss, token mean); what a
branch keeps is part of its prompt and trains once, in the original.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from entrobench import (
    ENTROPY,
    Batch,
    Branching,
    Component,
    Generate,
    PlainRollout,
    Program,
    RolloutProgram,
    RunConfig,
    Signals,
    Stage,
    Stages,
    StepContext,
    UserError,
    answered,
    concat,
    highest_positions,
    hp,
    register,
    scores_of,
)
from methods.dapo import DAPO, DynamicSampling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

ORDERS = ("entropy", "random")
JUDGED = ("whole", "continuation")


def says_enough(texts: Sequence[str], min_text: int = 2) -> list[bool]:
    """Whether each token's text, stripped of blanks, has ``min_text`` characters."""
    return [len(text.strip()) >= min_text for text in texts]


def eligible(ids_BT: Tensor, mask_BT: Tensor, says: Callable[[list[int]], list[bool]]) -> Tensor:
    """Bool ``[B,T]``: response tokens behind the first that say enough; ``says`` tells it of token ids."""
    ids = ids_BT[mask_BT].unique()
    good = ids[torch.tensor(says(ids.tolist()), dtype=torch.bool)]
    allowed = torch.isin(ids_BT, good) & mask_BT
    allowed[:, 0] = False
    return allowed


def kept_tokens(position: int, prompt_tokens: int, max_prompt_tokens: int | None) -> int:
    """Response tokens before ``position`` that fit behind the prompt: the first ones."""
    return position if max_prompt_tokens is None else max(min(position, max_prompt_tokens - prompt_tokens), 0)


class Consolidation(Component):
    """Steps of the first part of the run, and whether the second has begun; its optimiser starts afresh."""

    may_reset = frozenset({"optimizer"})

    def __init__(self, first_share: float) -> None:
        self.first_share, self.begun, self.steps = first_share, False, 0
        self._now = False

    def after_update(self, signals: Signals, ctx: StepContext) -> Mapping[str, float]:
        due = ctx.fraction >= self.first_share - 1e-9
        self.steps += not self.begun
        self._now, self.begun = due and not self.begun and ctx.fraction < 1, due
        return {"cure/first_stage_steps": float(self.steps)}

    def resets(self) -> frozenset[str]:
        wanted, self._now = self._now, False
        return frozenset({"optimizer"} if wanted else ())

    def state_dict(self) -> dict[str, Any]:
        return {"begun": self.begun, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.begun, self.steps = bool(state["begun"]), int(state["steps"])


@dataclass(frozen=True)
class CriticalBranches(Branching):
    """The rollouts of ``plain``; in the first part of the run most of them are branches of the others."""

    plain: RolloutProgram
    second: Consolidation
    n2: int
    top_k: int
    order: str
    min_text: int
    max_prompt_tokens: int | None
    judged: str

    def parts(self) -> tuple[Stage, ...]:
        return (self.plain,)

    def run(self, ctx: StepContext) -> Program:
        if self.second.begun:
            return (yield from self.plain.run(ctx))
        draws = ctx.generator("cure")

        def branched(request: Generate) -> Program:
            originals = yield Generate(request.prompts, request.n // (1 + self.n2))
            originals = self.rooted(originals)
            scores = yield from scores_of(originals, (ENTROPY,))
            cuts = self.cuts(originals, scores[ENTROPY.name], ctx, draws)
            branches = yield from self.branches(
                originals, range(len(originals)), cuts, self.n2, judged_prefix=self.judged == "whole"
            )
            return concat([originals, branches])

        batch = yield from answered(self.plain.run(ctx), branched)
        # a program that tags its refills has written over the branches' own tag
        return batch.with_tags(extra=torch.maximum(batch.tag("extra"), (batch.tag("level") > 0).float()))

    def cuts(
        self, batch: Batch, entropy_BT: Tensor, ctx: StepContext, draws: torch.Generator
    ) -> list[int]:  # fmt: skip
        """How many tokens of each response its branches keep."""
        allowed = eligible(
            batch.response_BT,
            batch.mask_BT,
            lambda ids: says_enough(ctx.decode([[i] for i in ids]), self.min_text),
        )
        order = entropy_BT if self.order == "entropy" else torch.rand(entropy_BT.shape, generator=draws)
        prompt = (batch.prompt_mask_BP.sum(1)).tolist()
        cuts = []
        for found, tokens in zip(highest_positions(order, allowed, self.top_k), prompt, strict=True):
            drawn = int(torch.randint(len(found), (), generator=draws)) if found else 0
            cuts.append(kept_tokens(found[drawn], tokens, self.max_prompt_tokens) if found else 0)
        return cuts


@register("cure")
@dataclass(frozen=True)
class CURE(DAPO):
    """DAPO whose groups are completed by branches at uncertain tokens, then DAPO."""

    gen_factor: float = hp(2.0, "prompts of a generation round, in units of prompts_per_step", gt=0)
    n2: int = hp(3, "branches of each original response; 1 + n2 divides rollout.group_size", ge=1)
    critical_top_k: int = hp(20, "positions among which the cut is drawn", ge=1)
    critical_order: str = hp("entropy", "which positions come first", choices=ORDERS)
    min_text: int = hp(2, "characters of a token that may be cut at; 1 on a model of characters", ge=1)
    max_prompt_tokens: int | None = hp(1500, "tokens of a prompt and what is kept; null: any number", ge=1)
    judged: str = hp("whole", "what the verifier sees of a branch", choices=JUDGED)
    first_share: float = hp(0.75, "share of the run with branches; 1 is the first stage alone", gt=0, le=1)

    def validate(self, run: RunConfig) -> None:
        super().validate(run)
        size, tree = run.rollout.group_size, 1 + self.n2
        if size % tree:
            raise UserError(
                f"cure makes groups of originals with {self.n2} branches each, and rollout.group_size={size} "
                f"is no multiple of {tree}; change rollout.group_size or method.n2"
            )

    def stages(self) -> Stages:
        second = Consolidation(self.first_share)
        plain = (
            DynamicSampling(self.gen_factor, self.max_gen_batches)
            if self.dynamic_sampling
            else PlainRollout()
        )
        program = CriticalBranches(
            plain, second, self.n2, self.critical_top_k, self.critical_order, self.min_text,
            self.max_prompt_tokens, self.judged,
        )  # fmt: skip
        return super().stages().with_(rollout=program, components={"cure": second})
