"""From prompts to a batch of rollouts: what training, the probe, evaluation and calibration share."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness import sampler
from harness.batch import Batch, concat
from harness.parallel import world
from harness.policy import Policy
from harness.problems import Benchmark, Verdict, verify_all
from harness.stages import Prompt


def roll_out(
    policy: Policy,
    prompts: Sequence[Prompt],
    n: int,
    *,
    keys: Sequence[tuple[object, ...]],
    temperature: float,
    top_p: float = 1.0,
    max_tokens: int,
    sample_offset: int = 0,
) -> Batch:
    """``n`` responses to each prompt as an unverified batch, prompt-major; the processes share the prompts.

    Args:
        keys: one per response; its draws depend on nothing else (see :func:`harness.sampler.sample`).
        sample_offset: number of the first sample of each prompt.
    """
    here = world()
    mine = here.span(len(prompts))

    def own() -> Batch | None:
        if not len(mine):
            return None
        return _roll_out(
            policy, prompts[mine.start : mine.stop], n, keys=keys[mine.start * n : mine.stop * n],
            temperature=temperature, top_p=top_p, max_tokens=max_tokens, sample_offset=sample_offset,
        )  # fmt: skip

    with policy.network.gathered():
        parts = here.apart(own)
    return concat([part for part in parts if part is not None])


def _roll_out(
    policy: Policy, prompts: Sequence[Prompt], n: int, *, keys: Sequence[tuple[object, ...]],
    temperature: float, top_p: float, max_tokens: int, sample_offset: int,
) -> Batch:  # fmt: skip
    ids = [[*policy.encode(p.problem.prompt), *p.prefix] for p in prompts]
    out = sampler.sample(
        policy, ids, n, keys=keys, temperature=temperature, top_p=top_p, max_tokens=max_tokens
    )
    ids_GP, mask_GP = sampler.left_padded(ids, policy.pad_id)
    rows = [p for p in prompts for _ in range(n)]
    responses = [tokens[m].tolist() for tokens, m in zip(out.tokens_NT, out.mask_NT, strict=True)]
    judged = [[*p.prefix, *r] if p.judged_prefix else r for p, r in zip(rows, responses, strict=True)]
    return Batch(
        prompt_BP=ids_GP.repeat_interleave(n, 0),
        prompt_mask_BP=mask_GP.repeat_interleave(n, 0),
        response_BT=out.tokens_NT,
        mask_BT=out.mask_NT,
        group_B=torch.tensor([p.group for p in rows]),
        sample_B=torch.arange(sample_offset, sample_offset + n).repeat(len(prompts)),
        temperature_B=torch.full((len(rows),), temperature),
        truncated_B=out.truncated_N,
        rollout_logp_BT=out.logp_NT,
        problems=tuple(p.problem for p in rows),
        texts=tuple(policy.decode(judged)),
    )


def verify_shared(benchmark: Benchmark, batch: Batch) -> tuple[Verdict, ...]:
    """A verdict for each row; the processes share the rows."""
    pairs = list(zip(batch.problems, batch.texts, strict=True))
    return tuple(
        world().spread(pairs, lambda part: verify_all(benchmark, [p for p, _ in part], [t for _, t in part]))
    )
