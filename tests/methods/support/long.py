"""A step of responses of 8,192 tokens whose log ratios are as large as a run that goes wrong makes them."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from harness.problems.problem import Problem, Verdict
from harness.stages.base import StepContext
from harness.stages.batch import Batch
from harness.stages.token_stats import LOGP
from tests.methods.support.pipeline import PIECES, VOCAB, WIDTH_P, LogitsPolicy, Step, branched

LENGTH_T = 8192
#: log ratio of each response, nats: raised and lowered far, with a positive and a negative advantage each.
TOTAL_B = (1000.0, -1000.0, 100.0, -100.0)
CORRECT = (True, False, False, True)
#: Where a response's log ratio is: over all tokens, in one of them, or once in every token.
PLACES = ("spread", "one token", "every token")


@cache
def long_step(place: str, reference: str) -> Step:
    """Four responses in two groups, in float32.

    Args:
        place: of :data:`PLACES`.
        reference: the policy that the frozen reference is, ``old`` or ``current``; the KL to the other is
            as large as the ratio.
    """
    g = torch.Generator().manual_seed(0)
    rows, token = len(TOTAL_B), torch.randint(VOCAB, (len(TOTAL_B), LENGTH_T), generator=g)
    length_B = torch.tensor([LENGTH_T, LENGTH_T, LENGTH_T, LENGTH_T - 17])
    total_B1 = torch.tensor(TOTAL_B)[:, None]
    change = torch.zeros(rows, LENGTH_T)
    if place == "one token":
        change[:, 5:6] = total_B1
    else:
        change += total_B1 / (length_B[:, None] if place == "spread" else 10.0)
    base = -0.5 - 0.3 * torch.rand(rows, LENGTH_T, generator=g)
    logp = {"old": base - change.clamp(min=0), "current": base + change.clamp(max=0)}
    prompt = torch.randn(rows, WIDTH_P, VOCAB, generator=g)
    policies = {name: LogitsPolicy(_logits(own, token), prompt, 1.0) for name, own in logp.items()}
    group_B = torch.tensor([0, 0, 1, 1])
    batch = Batch(
        prompt_BP=torch.randint(VOCAB, (2, WIDTH_P), generator=g)[group_B],
        prompt_mask_BP=torch.ones(rows, WIDTH_P, dtype=torch.bool),
        response_BT=token,
        mask_BT=torch.arange(LENGTH_T) < length_B[:, None],
        group_B=group_B,
        sample_B=torch.tensor([0, 1, 0, 1]),
        temperature_B=torch.ones(rows),
        truncated_B=length_B == LENGTH_T,
        rollout_logp_BT=torch.zeros(rows, LENGTH_T),
        problems=tuple(Problem(str(i), "?") for i in group_B.tolist()),
        texts=("",) * rows,
        verdicts=tuple(Verdict("right" if c else "wrong") for c in CORRECT),
        tags={
            "row": torch.arange(rows),
            "tempered": (group_B > 0).float(),
            "grpo_advantage": torch.tensor([1.0 if c else -1.0 for c in CORRECT]),
        },
    )
    batch = branched(batch, torch.Generator().manual_seed(1))
    batch = batch.with_(rollout_logp_BT=policies["old"].stats(batch, (LOGP,))["logp"])
    ctx = StepContext(
        step=3, fraction=0.3, total_steps=10, seed=0, prompts_per_step=2, group_size=2,
        max_response_tokens=LENGTH_T, temperature=1.0, minibatches=1, started=0.2,
        decode=lambda rows: ["".join(PIECES[i] for i in row) for row in rows],
        pieces=lambda ids: [PIECES[i] for i in ids],
    )  # fmt: skip
    return Step(batch, policies["current"], policies["old"], policies[reference], ctx)


def _logits(logp_BT: Tensor, token_BT: Tensor) -> Tensor:
    """Logits, 0 but at the token, that give it this log-prob: ``[B,T,V]`` float32."""
    logp = logp_BT.double()
    own = math.log(VOCAB - 1) + logp - torch.log(-torch.expm1(logp))
    zeros = torch.zeros(*token_BT.shape, VOCAB, dtype=torch.float64)
    return zeros.scatter(2, token_BT[..., None], own[..., None]).float()
