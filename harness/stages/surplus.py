"""More rollouts than are trained on: drawing them, and leaving some out with a declared denominator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from harness.stages.base import RolloutProgram, StepContext
from harness.stages.batch import Batch
from harness.stages.requests import Draw, Generate, Program, Prompt, Verify

if TYPE_CHECKING:
    from torch import Tensor

#: What the denominators of ``token-mean`` count where rows were left out (:func:`without_rows`).
COUNTED = ("kept", "sampled")


@dataclass(frozen=True)
class SurplusRollout(RolloutProgram):
    """The plain rollouts, and ``surplus`` responses more to each prompt, in the same group.

    The first ``group_size`` are those that a plain run draws; the others are tagged ``extra``.
    """

    surplus: int = 1

    writes_tags = frozenset({"extra"})

    def run(self, ctx: StepContext) -> Program:
        problems = yield Draw(ctx.prompts_per_step)
        prompts = [Prompt(problem, group) for group, problem in enumerate(problems)]
        batch = yield Generate(prompts, ctx.group_size + self.surplus)
        return (yield Verify(batch.with_tags(extra=(batch.sample_B >= ctx.group_size).float())))


def without_rows(batch: Batch, left_out_B: Tensor, counted: str = "kept") -> Batch:
    """``batch`` without the rows of ``left_out_B`` (bool), which take no pass any more.

    Args:
        counted: ``kept``, denominators count what is left; ``sampled``, that of ``token-mean`` counts the
            tokens of the rows left out, too. Their number stands in ``count_mask_BT`` at the first token of
            a row of their group, so they count where their group trains.

    Raises:
        ValueError: with ``sampled``, a group keeps no row, or ``counted`` is neither.
    """
    if counted not in COUNTED:
        raise ValueError(f"unknown count '{counted}'; choose {' or '.join(COUNTED)}")
    kept = batch.rows(~left_out_B)
    if counted == "kept":
        return kept
    missing_B = torch.where(left_out_B, batch.denominator_mask_BT.sum(1), 0)
    count_BT = kept.denominator_mask_BT.long()
    for group in torch.unique(batch.group_B[left_out_B]):
        rows = (kept.group_B == group).nonzero().flatten()
        if not len(rows):
            raise ValueError("a group keeps no row, so no minibatch would count the tokens it lost")
        count_BT[rows[0], 0] += missing_B[batch.group_B == group].sum()
    return kept.with_(count_mask_BT=count_BT)
