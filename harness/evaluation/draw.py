"""Drawing the missing samples: the engine generates, the judge grades beside it, the store keeps both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol

from harness.evaluation.judges import Judge
from harness.evaluation.samples import Sample, SampleStore
from harness.problems.problem import Problem
from harness.rollout.engines.base import Completion, Engine, GenerationRequest, Sampling
from harness.util.errors import UserError
from harness.util.progress import meanwhile

#: A prompt must leave at least this share of the token limit within the context.
LEAST_ROOM = 0.25
#: Seconds between looks at the judge while an engine draws a block and hands nothing over.
LOOK_S = 1.0


class Reads(Protocol):
    """What reads prompts: an engine, or a tokenizer with the context of the engine to come."""

    @property
    def max_positions(self) -> int | None: ...

    def encode(self, prompt: str) -> list[int]: ...


@dataclass(frozen=True)
class Encoded:
    """A problem with its prompt's tokens and the token limit of its responses."""

    problem: Problem
    prompt_ids: tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True)
class Progress:
    """What a display shows; ``tokens`` and ``drawn`` count this process's work only."""

    problems: int
    problems_done: int
    samples: int
    samples_done: int
    right: int
    tokens: int
    drawn: int


def encode(engine: Reads, problems: Sequence[Problem], max_tokens: int) -> list[Encoded]:
    """Prompts as tokens, checked against the context before anything is drawn.

    A prompt that leaves less room than ``max_tokens`` gets a smaller limit, down to a quarter of it.

    Raises:
        UserError: a prompt that leaves less; the message names the problem and the remedy.
    """
    context = engine.max_positions
    if context is not None and max_tokens >= context:
        raise UserError(
            f"max_tokens={max_tokens} does not fit the model's context of {context}, prompt included; "
            f"say max_tokens={int(0.75 * context)} or less, or take a model with a longer context"
        )
    encoded = []
    for problem in problems:
        ids = tuple(engine.encode(problem.prompt))
        room = max_tokens if context is None else min(max_tokens, context - len(ids))
        if room < LEAST_ROOM * max_tokens:
            raise UserError(
                f"the prompt of {problem.id} has {len(ids)} tokens of the model's context of {context}, "
                f"which leaves {max(room, 0)} for a response of up to {max_tokens}; lower max_tokens, or "
                "take a model with a longer context"
            )
        encoded.append(Encoded(problem, ids, room))
    return encoded


def draw_missing(
    engine: Engine,
    judge: Judge,
    problems: Sequence[Encoded],
    store: SampleStore,
    *,
    sampling: Sampling,
    key: tuple[object, ...],
    graded_by: str,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Draw and judge every sample that ``store`` lacks; what is judged when this is interrupted is kept.

    Args:
        sampling: its token limit is replaced by each problem's own.
        key: draws depend on ``(*key, problem id, sample number)`` only.
        graded_by: name and version of the judge, kept with every sample.
    """
    loop = _Loop(judge, graded_by, store, on_progress)
    by_limit = sorted(problems, key=lambda e: -e.max_tokens)
    try:
        for limit, group in groupby(by_limit, key=lambda e: e.max_tokens):
            requests = _requests(list(group), store, key)
            with meanwhile(loop.keep_up):
                for completion in engine.generate(requests, replace(sampling, max_tokens=limit)):
                    loop.take(completion)
        loop.collect(wait=True)
        loop.report()
    except BaseException:
        loop.collect(wait=False)  # what the judge has finished in the meantime
        raise
    finally:
        store.flush()


def _requests(
    problems: Sequence[Encoded], store: SampleStore, key: tuple[object, ...]
) -> Iterator[GenerationRequest]:
    for encoded in problems:
        for sample in range(store.n):
            if not store.has(encoded.problem.id, sample):
                tag = (encoded.problem, sample)
                yield GenerationRequest((*key, encoded.problem.id, sample), encoded.prompt_ids, tag)


class _Loop:
    """From completions to stored samples; counts what it sees."""

    def __init__(
        self,
        judge: Judge,
        graded_by: str,
        store: SampleStore,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._judge, self._graded_by, self._store = judge, graded_by, store
        self._on_progress = on_progress
        self._waiting: dict[tuple[str, int], Completion] = {}
        self._tokens = self._drawn = 0
        self._looked = time.monotonic()

    def keep_up(self) -> None:
        """Have on disk what is judged while the engine is at a block, which may take hours."""
        if time.monotonic() - self._looked >= LOOK_S:
            self.collect(wait=False)
            self._store.keep_up()
            self._looked = time.monotonic()

    def take(self, completion: Completion) -> None:
        problem, sample = completion.request.tag
        self._tokens += len(completion.token_ids)
        self._waiting[problem.id, sample] = completion
        self._judge.submit(problem, completion.text, (problem.id, sample))
        self.collect(wait=False)
        self.report()

    def collect(self, *, wait: bool) -> None:
        for tag, verdict, second in self._judge.finished(wait=wait):
            completion = self._waiting.pop(tag)
            self._drawn += 1
            self._store.add(
                Sample(
                    problem_id=tag[0], sample=tag[1], text=completion.text, tokens=len(completion.token_ids),
                    stop=completion.stop_reason, status=verdict.status, canonical=verdict.canonical,
                    second=second, logp_sum=completion.logp_sum, graded_by=self._graded_by,
                )
            )  # fmt: skip

    def report(self) -> None:
        store = self._store
        self._on_progress(
            Progress(
                problems=store.problems, problems_done=store.problems_done,
                samples=store.problems * store.n, samples_done=len(store), right=store.right,
                tokens=self._tokens, drawn=self._drawn,
            )
        )  # fmt: skip


def grade_again(
    judge: Judge, problems: Sequence[Problem], samples: Sequence[Sample], graded_by: str
) -> list[Sample]:
    """``samples`` with new verdicts, in the same order."""
    by_id = {problem.id: problem for problem in problems}
    for i, sample in enumerate(samples):
        judge.submit(by_id[sample.problem_id], sample.text, i)
    judged = {i: (verdict, second) for i, verdict, second in judge.finished(wait=True)}
    return [
        replace(
            sample, status=judged[i][0].status, canonical=judged[i][0].canonical, second=judged[i][1],
            graded_by=graded_by,
        )
        for i, sample in enumerate(samples)
    ]  # fmt: skip
