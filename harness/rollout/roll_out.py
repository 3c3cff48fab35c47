"""From prompts to a batch of rollouts: what training, the probe, evaluation and calibration share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from harness.distributed.world import world
from harness.model.decoding import left_padded
from harness.model.policy import Policy
from harness.problems.problem import Verdict
from harness.rollout import sampler
from harness.rollout.mixing import Mixing
from harness.rollout.sampler import Samples, TokenTemperature
from harness.rollout.stopping import until_stop
from harness.stages.batch import Batch, concat
from harness.stages.requests import Judging, Prompt
from harness.stages.token_stats import TokenStat
from harness.util import progress


class Sampler(Protocol):
    """Draws responses with the weights of a policy; each process of a run has one."""

    @property
    def determinism(self) -> str:
        """``bitwise``, ``same-samples`` or ``statistical`` (see :mod:`harness.rollout.engines.base`)."""

    def awake(self) -> AbstractContextManager[Any]:
        """While open, the sampler holds the policy's current weights. All processes enter it together."""

    def outdated(self) -> None:
        """The policy's weights have changed."""

    def rest(self) -> None:
        """Nothing is drawn for a while: give back memory that an update can use."""

    def sample(
        self, prompts: Sequence[Sequence[int]], n: int, *, keys: Sequence[tuple[object, ...]],
        temperature: float, top_p: float, max_tokens: int, at_once: int | None = None,
        token_temperature: TokenTemperature | None = None, stats: Sequence[TokenStat] = (),
        mixing: Mixing | None = None,
    ) -> Samples:  # fmt: skip
        """``n`` responses to each prompt; see :func:`harness.rollout.sampler.sample`."""

    def close(self) -> None:
        """Free what it holds."""


class BuiltIn:
    """The policy itself draws (:mod:`harness.rollout.sampler`)."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @property
    def determinism(self) -> str:
        return "bitwise" if self._policy.device.type == "cpu" else "statistical"

    def awake(self) -> AbstractContextManager[Any]:
        return self._policy.network.gathered()

    def outdated(self) -> None:
        pass  # it draws with the policy's own weights

    def rest(self) -> None:
        pass

    def sample(
        self, prompts: Sequence[Sequence[int]], n: int, *, keys: Sequence[tuple[object, ...]],
        temperature: float, top_p: float, max_tokens: int, at_once: int | None = None,
        token_temperature: TokenTemperature | None = None, stats: Sequence[TokenStat] = (),
        mixing: Mixing | None = None,
    ) -> Samples:  # fmt: skip
        return sampler.sample(
            self._policy, prompts, n, keys=keys, temperature=temperature, top_p=top_p, max_tokens=max_tokens,
            at_once=at_once, token_temperature=token_temperature, stats=stats, mixing=mixing,
        )  # fmt: skip

    def close(self) -> None:
        pass


def roll_out(
    policy: Policy,
    prompts: Sequence[Prompt],
    n: int,
    *,
    keys: Sequence[tuple[object, ...]],
    temperature: float,
    top_p: float = 1.0,
    max_tokens: int,
    at_once: int | None = None,
    sample_offset: int = 0,
    by: Sampler | None = None,
    token_temperature: TokenTemperature | None = None,
    stats: Sequence[TokenStat] = (),
    mixing: Mixing | None = None,
) -> Batch:
    """``n`` responses to each prompt as an unverified batch, prompt-major; the processes share the prompts.

    Args:
        keys: one per response; its draws depend on nothing else (see :func:`harness.rollout.sampler.sample`).
        at_once: rows that are under way at a time in all processes together; by default all are.
        sample_offset: number of the first sample of each prompt.
        by: who draws; by default the policy itself.
        stats: taken while sampling, if the policy itself draws, as ``old`` of the batch.
        mixing: a second model that the policy itself draws with.
    """
    here = world()
    drawer: Sampler = by or BuiltIn(policy)
    mine = here.span(len(prompts))

    def own() -> Batch | None:
        if not len(mine):
            return None
        return _roll_out(
            drawer, policy, prompts[mine.start : mine.stop], n, keys=keys[mine.start * n : mine.stop * n],
            temperature=temperature, top_p=top_p, max_tokens=max_tokens,
            at_once=None if at_once is None else -(-at_once // here.size), sample_offset=sample_offset,
            token_temperature=token_temperature, stats=stats, mixing=mixing,
        )  # fmt: skip

    with drawer.awake():
        progress.part(len(prompts) * n)
        parts = here.run_locally(own)
    return concat([part for part in parts if part is not None])


def _roll_out(
    drawer: Sampler, policy: Policy, prompts: Sequence[Prompt], n: int, *,
    keys: Sequence[tuple[object, ...]], temperature: float, top_p: float, max_tokens: int,
    at_once: int | None, sample_offset: int, token_temperature: TokenTemperature | None,
    stats: Sequence[TokenStat], mixing: Mixing | None,
) -> Batch:  # fmt: skip
    ids = [[*policy.encode(p.problem.prompt), *p.prefix] for p in prompts]
    out = drawer.sample(
        ids, n, keys=keys, temperature=temperature, top_p=top_p, max_tokens=max_tokens, at_once=at_once,
        token_temperature=token_temperature, stats=stats, mixing=mixing,
    )  # fmt: skip
    ids_GP, mask_GP = left_padded(ids, policy.pad_id)
    rows = [p for p in prompts for _ in range(n)]
    responses = [tokens[m].tolist() for tokens, m in zip(out.tokens_NT, out.mask_NT, strict=True)]
    judged = [[*p.prefix, *r] if p.judged_prefix else r for p, r in zip(rows, responses, strict=True)]
    texts = policy.decode(judged)
    if policy.stop_texts:
        texts = [
            until_stop(policy.tokenizer, text, response, policy.stop_texts)
            for text, response in zip(texts, responses, strict=True)
        ]
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
        texts=tuple(texts),
        old=out.stats,
    )


def judge_shared(judge: Judging, batch: Batch) -> tuple[Verdict, ...]:
    """A verdict for each row; the processes share the rows."""
    progress.note("judging")
    pairs = list(zip(batch.problems, batch.texts, strict=True))
    return tuple(world().spread(pairs, lambda part: list(judge([p for p, _ in part], [t for _, t in part]))))
