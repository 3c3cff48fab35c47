"""The rollouts of one step of a trainer, and what its program asked for."""

from __future__ import annotations

from typing import Any

from harness.stages.batch import Batch
from harness.stages.requests import Generate
from harness.train.trainer import Trainer


def rollouts(trainer: Trainer) -> tuple[Batch, list[tuple[Generate, Batch]]]:
    """The judged rollouts of the next step, which trains nothing, and every request with its answer."""
    asked: list[tuple[Generate, Batch]] = []
    generate = trainer.rollouts.generate

    def noted(request: Generate, ctx: Any) -> Batch:
        asked.append((request, generate(request, ctx)))
        return asked[-1][1]

    trainer.rollouts.generate = noted  # type: ignore[method-assign]
    trainer.counters.step += 1
    try:
        return trainer.rollouts.run_program(trainer.context()), asked
    finally:
        del trainer.rollouts.generate  # type: ignore[method-assign]


def tokens_of(batch: Batch, row: int) -> tuple[list[int], list[int]]:
    """Prompt and response of a row, without padding."""
    prompt = batch.prompt_BP[row][batch.prompt_mask_BP[row]]
    return prompt.tolist(), batch.response_BT[row][batch.mask_BT[row]].tolist()
