"""What a rollout program asks for, and the program as a generator of such requests."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.problems.problem import Problem, Verdict
from harness.stages.batch import Batch
from harness.stages.token_stats import TokenStat

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """Ask the prompt source for ``n`` problems. Answer: ``list[Problem]``."""

    n: int


@dataclass(frozen=True)
class Demonstrate:
    """Ask for a demonstration of each of ``problems``. Answer: a :class:`Batch` with a row for each.

    Rows are of groups of their own and tagged ``demonstration``. Nobody judges them: each has the verdict
    ``right`` and the tag ``judged = 0``. Only a program with ``needs_demonstrations`` may ask.
    """

    sets_tags: ClassVar[frozenset[str]] = frozenset({"demonstration", "extra", "judged"})

    problems: Sequence[Problem]


@dataclass(frozen=True)
class Prompt:
    """A prompt to generate from.

    ``prefix`` are token ids that follow the problem's prompt; they count as prompt (masked from the loss).
    ``judged_prefix`` says whether the verifier sees the prefix's text in front of the response.
    ``rewritten`` says that the problem's prompt is not the one of its set, which was looked at before the
    first step: what it leaves of the model's context bounds the response.
    ``stream`` separates the random draws of prompts that share a problem within a step.
    """

    problem: Problem
    group: int
    prefix: tuple[int, ...] = ()
    judged_prefix: bool = False
    stream: int = 0
    rewritten: bool = False


@dataclass(frozen=True)
class Mixture:
    """A second model at sampling: each token is drawn from (1 - w) p + w q.

    p is the policy, q the model named ``model`` by a hyper-parameter (``hp(names_model=True)``), both at the
    sampling temperature. ``weight`` gives w ``[N]``, from 0 to 1, from p ``[N,V]``.
    """

    model: str
    weight: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Generate:
    """Ask for ``n`` responses per prompt, prompt-major. Answer: an unverified :class:`Batch`.

    ``None`` takes the run's setting. ``sample_offset`` numbers the samples from there (refills, branches).
    ``token_temperature`` gives each token's sampling temperature ``[N]`` from the raw logits ``[N,V]``, and
    needs the engine's capability of that name; so does ``mixture``, which draws with a second model.
    """

    prompts: Sequence[Prompt]
    n: int
    temperature: float | None = None
    max_tokens: int | None = None
    sample_offset: int = 0
    token_temperature: Callable[[Tensor], Tensor] | None = None
    mixture: Mixture | None = None


@dataclass(frozen=True)
class Score:
    """Ask for token statistics of ``batch`` under the current policy. Answer: ``{name: [B,T] tensor}``."""

    batch: Batch
    stats: tuple[TokenStat, ...]


#: Problems and texts -> as many verdicts, each of which depends on its own row alone.
Judging = Callable[[Sequence[Problem], Sequence[str]], Sequence[Verdict]]


@dataclass(frozen=True)
class Verify:
    """Ask for verdicts; the processes share the rows. Answer: the batch with ``verdicts`` set.

    ``judge`` gives those of rollouts on problems of the method's own; None is the benchmark.
    """

    batch: Batch
    judge: Judging | None = None


RolloutRequest = Draw | Demonstrate | Generate | Score | Verify
#: A rollout program at work: yields requests, is sent their answers, returns the batch.
Program = Generator[RolloutRequest, Any, Batch]
