"""Prompts that a rollout program writes anew: the question in another form, or with something behind it.

A rewritten problem keeps its id, so draws stay keyed by it, and its verifier. All that follows (old and
current pass, reference) conditions on the prompt that was sampled from, which a batch holds as tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from harness.problems.problem import Problem
from harness.stages.batch import Batch, concat
from harness.util.errors import UserError

#: ChatML markers: what the templates of papers on Qwen models are written with.
CHATML = ("<|im_start|>", "<|im_end|>")


def is_text(problem: Problem) -> bool:
    """Whether the problem asks in words: its set gives the bare question. Formal problems do not."""
    return "question" in problem.meta


def question_of(problem: Problem) -> str:
    """The question without a template; of a formal problem its whole prompt."""
    return str(problem.meta.get("question", problem.prompt))


def solution_of(problem: Problem) -> str:
    """A right response where the set knows one, else the reference answer, which may be empty."""
    return problem.solution or problem.answer


def answer_of(problem: Problem) -> str:
    """The reference answer where there is a single one, else a right response that the set knows."""
    return problem.answer or problem.solution


def with_prompt(problem: Problem, prompt: str, **meta: Any) -> Problem:
    """``problem`` with another prompt; ``meta`` is added to what the verifier is given."""
    return replace(problem, prompt=prompt, meta={**problem.meta, **meta})


def behind_question(problem: Problem, text: str) -> str:
    """The problem's prompt with ``text`` behind its question, wherever the run's template puts that.

    Raises:
        ValueError: the prompt does not hold the question.
    """
    asked = question_of(problem).strip()  # chat templates strip what stands around a turn
    front, question, rest = problem.prompt.rpartition(asked)
    if not question:
        raise ValueError(f"problem {problem.id}: its prompt does not hold its question")
    return front + question + text + rest


def turns(system: str, user: str, opened: str = "") -> str:
    """A prompt of one question in ChatML; ``opened`` is what the answer begins with already."""
    start, end = CHATML
    return f"{start}system\n{system}{end}\n{start}user\n{user}{end}\n{start}assistant\n{opened}"


def check_chatml(encode: Any, who: str, instead: str) -> None:
    """Refuse a tokenizer without the tokens of ChatML.

    Args:
        encode: token ids of a text, ``ctx.encode``.
        who: whose prompts these are.
        instead: the remedy.

    Raises:
        UserError: a marker is not one token.
    """
    missing = [mark for mark in CHATML if len(encode(mark)) != 1]
    if missing:
        raise UserError(
            f"{who} writes prompts with the token {missing[0]}, which this model's tokenizer does not have; "
            f"{instead}"
        )


def replaced_groups(batch: Batch, new: Batch) -> Batch:
    """``batch`` with the rows of ``new`` in the place of all rows of the groups that ``new`` has.

    Groups stay in the order of ``batch``, rows of a group in the order of where they come from.
    """
    if not len(new):
        return batch
    kept = batch.rows(~torch.isin(batch.group_B, torch.unique(new.group_B)))
    joined = concat([kept, new]) if len(kept) else new
    order = {group: place for place, group in enumerate(dict.fromkeys(batch.group_B.tolist()))}
    places: Sequence[int] = sorted(range(len(joined)), key=lambda row: order[int(joined.group_B[row])])
    return joined.rows(places)
