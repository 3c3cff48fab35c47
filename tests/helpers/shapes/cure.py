"""CURE (arXiv 2508.11016), stage 1: branches restart just before a random high-entropy token."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.stages.base import RolloutProgram, Stages, StepContext
from harness.stages.batch import Batch, concat
from harness.stages.defaults import grpo_stages
from harness.stages.loss import FixedBounds, PolicyLoss
from harness.stages.requests import Draw, Generate, Program, Prompt, Score, Verify
from harness.stages.token_stats import ENTROPY


def candidates(entropy_T: list[float], texts: list[str], top_k: int) -> list[int]:
    """Positions in decreasing entropy, without the first token, special tokens and short texts."""
    order = sorted(range(len(texts)), key=lambda t: -entropy_T[t])
    return [t for t in order if t > 0 and len(texts[t].strip()) > 1][:top_k]


@dataclass(frozen=True)
class Branching(RolloutProgram):
    """n1 originals, then n2 continuations of each cut original; one group."""

    n1: int = 2
    n2: int = 2
    top_k: int = 20

    engine_needs = frozenset({"prefix"})

    def run(self, ctx: StepContext) -> Program:
        problems = yield Draw(ctx.prompts_per_step)
        originals: Batch = yield Generate([Prompt(p, g) for g, p in enumerate(problems)], self.n1)
        entropy = (yield Score(originals, (ENTROPY,)))["entropy"]
        cuts, prompts = [], []
        for row in range(len(originals)):
            ids = originals.response_BT[row][originals.mask_BT[row]].tolist()
            pool = candidates(entropy[row].tolist(), ctx.decode([[i] for i in ids]), self.top_k)
            drawn = int(torch.randint(max(len(pool), 1), (), generator=ctx.generator("cut", row)))
            cut = pool[drawn] if pool else 0
            cuts.append(cut)
            prompts.append(
                Prompt(originals.problems[row], int(originals.group_B[row]), tuple(ids[:cut]), stream=1 + row)
            )
        branches: Batch = yield Generate(prompts, self.n2)
        of_original = originals.sample_B.repeat_interleave(self.n2)
        branches = branches.with_(sample_B=self.n1 + of_original * self.n2 + branches.sample_B)
        both = concat(
            [
                originals.with_tags(branch=torch.zeros(len(originals)), cut=torch.zeros(len(originals))),
                branches.with_tags(
                    branch=torch.ones(len(branches)), cut=torch.tensor(cuts).repeat_interleave(self.n2)
                ),
            ]
        )
        both = both.with_tags(extra=both.tags["branch"])
        return (yield Verify(both.rows(both.group_B.argsort(stable=True))))


def cure_stages() -> Stages:
    return grpo_stages().with_(
        rollout=Branching(),
        loss=PolicyLoss(bounds=FixedBounds(0.2, 0.28), dual_clip=10.0, aggregation="token-mean"),
    )
