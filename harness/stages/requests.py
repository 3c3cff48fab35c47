"""What a rollout program asks for, and the program as a generator of such requests."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.problems.problem import Problem
from harness.stages.batch import Batch
from harness.stages.token_stats import TokenStat

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """Ask the prompt source for ``n`` problems. Answer: ``list[Problem]``."""

    n: int


@dataclass(frozen=True)
class Prompt:
    """A prompt to generate from.

    ``prefix`` are token ids that follow the problem's prompt; they count as prompt (masked from the loss).
    ``judged_prefix`` says whether the verifier sees the prefix's text in front of the response.
    ``stream`` separates the random draws of prompts that share a problem within a step.
    """

    problem: Problem
    group: int
    prefix: tuple[int, ...] = ()
    judged_prefix: bool = False
    stream: int = 0


@dataclass(frozen=True)
class Generate:
    """Ask for ``n`` responses per prompt, prompt-major. Answer: an unverified :class:`Batch`.

    ``None`` takes the run's setting. ``sample_offset`` numbers the samples from there (refills, branches).
    ``token_temperature`` gives each token's sampling temperature ``[N]`` from the raw logits ``[N,V]``, and
    needs the engine's capability of that name.
    """

    prompts: Sequence[Prompt]
    n: int
    temperature: float | None = None
    max_tokens: int | None = None
    sample_offset: int = 0
    token_temperature: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Score:
    """Ask for token statistics of ``batch`` under the current policy. Answer: ``{name: [B,T] tensor}``."""

    batch: Batch
    stats: tuple[TokenStat, ...]


@dataclass(frozen=True)
class Verify:
    """Ask for verdicts. Answer: the batch with ``verdicts`` set."""

    batch: Batch


RolloutRequest = Draw | Generate | Score | Verify
#: A rollout program at work: yields requests, is sent their answers, returns the batch.
Program = Generator[RolloutRequest, Any, Batch]
