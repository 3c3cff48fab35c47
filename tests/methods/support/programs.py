"""A rollout program driven by a fake engine, and signals of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from harness.problems.problem import Problem, Verdict
from harness.stages.base import Signals, StepContext
from harness.stages.batch import Batch
from harness.stages.requests import Draw, Generate, Verify

CTX = StepContext(
    step=1, fraction=0.1, total_steps=10, seed=0, prompts_per_step=4, group_size=3, max_response_tokens=5,
    temperature=1.0,
)  # fmt: skip


def drive(program: Any, correct: Callable[[str, int], bool]) -> tuple[Batch, list[Any]]:
    """Run a rollout program; ``correct`` judges (problem id, sample)."""
    requests, answer, drawn = [], None, 0
    while True:
        try:
            request = program.send(answer)
        except StopIteration as stop:
            return stop.value, requests
        requests.append(request)
        if isinstance(request, Draw):
            answer = [Problem(str(drawn + i), "?") for i in range(request.n)]
            drawn += request.n
        elif isinstance(request, Generate):
            rows = [p for p in request.prompts for _ in range(request.n)]
            answer = Batch(
                prompt_BP=torch.zeros(len(rows), 2, dtype=torch.int64),
                prompt_mask_BP=torch.ones(len(rows), 2, dtype=torch.bool),
                response_BT=torch.zeros(len(rows), 3, dtype=torch.int64),
                mask_BT=torch.ones(len(rows), 3, dtype=torch.bool),
                group_B=torch.tensor([p.group for p in rows]),
                sample_B=torch.arange(request.n).repeat(len(request.prompts)),
                temperature_B=torch.full((len(rows),), request.temperature or CTX.temperature),
                truncated_B=torch.zeros(len(rows), dtype=torch.bool),
                rollout_logp_BT=torch.zeros(len(rows), 3),
                problems=tuple(p.problem for p in rows),
                texts=("",) * len(rows),
            )
        else:
            assert isinstance(request, Verify)
            batch = request.batch
            judged = zip(batch.problems, batch.sample_B.tolist(), strict=True)
            answer = batch.with_(
                verdicts=tuple(Verdict("right" if correct(p.id, s) else "wrong") for p, s in judged)
            )


def signals(**values: Any) -> Signals:
    base = dict(entropy=0.0, update_nll=0.0, kl=0.0, reward=0.0, accuracy=0.0, grad_norm=0.0, rows=12)
    return Signals(**{**base, **values})
