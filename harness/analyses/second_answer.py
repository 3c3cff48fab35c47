"""Two greedy answers to each problem, the second asked to be another one, and their tokens' entropies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from harness.problems.problem import Problem
from harness.rollout.engines.base import Completion, Engine, GenerationRequest, Sampling
from harness.util import progress
from harness.util.errors import UserError

#: What stands behind the question the second time; the wording is ours.
REQUEST = (
    "\n\n---\n{answer}\n---\nThe text between the two rules is one response to this. Give another response "
    "that gets to its result on a different path."
)
#: Tokens of the context that the second prompt leaves free, or the limit of an answer where that is less.
LEFT_FREE = 50
Asks = Callable[[Problem, str], str]


@dataclass(frozen=True)
class Answers:
    """First and second answer to one problem."""

    problem: Problem
    first: Completion
    second: Completion


def asking_of(benchmark: Any) -> Asks:
    """How a problem of ``benchmark`` is put the second time, with its first answer.

    By the benchmark's own ``second_prompt(problem, answer)`` where it has one, else with :data:`REQUEST`
    behind the question in the prompt.
    """
    own: Asks | None = getattr(benchmark, "second_prompt", None)
    return own or _behind_the_question


def _behind_the_question(problem: Problem, answer: str) -> str:
    question = str(problem.meta.get("question", "")).strip()
    at = problem.prompt.rfind(question) if question else -1
    if at < 0:
        raise UserError(
            f"the prompt of {problem.id} holds no question behind which a second response could be asked "
            "for; give its benchmark a second_prompt(problem, answer)"
        )
    end = at + len(question)
    return problem.prompt[:end] + REQUEST.replace("{answer}", answer) + problem.prompt[end:]


def answer_twice(
    engine: Engine,
    problems: Sequence[Problem],
    asks: Sequence[Asks],
    *,
    max_tokens: int,
    top: int,
    stop_texts: Sequence[str] = (),
) -> list[Answers]:
    """Both answers to every problem, in their order; the second may be twice as long.

    Args:
        asks: of each problem, how it is put the second time.
        top: likeliest tokens whose entropy is taken at each position.

    Raises:
        UserError: a prompt that leaves no room, or an engine that gives no entropies.
    """
    if "top_entropy" not in engine.capabilities:
        raise UserError(f"engine={engine.name} gives no log-probs of the likeliest tokens; take hf or vllm")
    context = engine.max_positions
    free = min(LEFT_FREE, max_tokens)

    def drawn(prompts: Sequence[tuple[int, ...]], limit: int, what: str) -> list[Completion]:
        rooms = [limit if context is None else min(limit, context - len(prompt)) for prompt in prompts]
        short = next((i for i, room in enumerate(rooms) if room < 1), None)
        if short is not None:
            raise UserError(
                f"the prompt of {problems[short].id} fills the context of {context}; take other problems, or "
                "a model with a longer context"
            )
        found: dict[int, Completion] = {}
        with progress.phase(what, len(prompts), "answers"):
            order = sorted(range(len(prompts)), key=lambda i: (rooms[i], i))
            for room, group in groupby(order, key=lambda i: rooms[i]):
                requests = [GenerationRequest((what, problems[i].id), prompts[i], i) for i in group]
                sampling = Sampling(0.0, 1.0, room, stop_texts=tuple(stop_texts), top_entropy=top)
                for completion in engine.generate(requests, sampling):
                    found[completion.request.tag] = completion
                    progress.tell(len(found), len(prompts))
        return [found[i] for i in range(len(prompts))]

    first = drawn([tuple(engine.encode(p.prompt)) for p in problems], max_tokens, "first answers")
    again = [
        tuple(_second(engine, problem, ask, answer.text, None if context is None else context - free))
        for problem, ask, answer in zip(problems, asks, first, strict=True)
    ]
    second = drawn(again, 2 * max_tokens, "second answers")
    return [Answers(*three) for three in zip(problems, first, second, strict=True)]


def _second(engine: Engine, problem: Problem, ask: Asks, answer: str, most: int | None) -> list[int]:
    """Tokens of the second prompt, at most ``most``: the first answer is cut at its end until it fits.

    Raises:
        UserError: it does not fit even without the answer.
    """
    ids = engine.encode(ask(problem, answer))
    while most is not None and len(ids) > most:
        if not answer:
            raise UserError(
                f"the second prompt of {problem.id} has {len(ids)} tokens without any answer, and {most} "
                "fit; take other problems, a smaller max_tokens, or a model with a longer context"
            )
        # in proportion, which is nearly right, then a little less
        answer = answer[: min(len(answer) - 1, len(answer) * most // len(ids))]
        ids = engine.encode(ask(problem, answer))
    return ids
