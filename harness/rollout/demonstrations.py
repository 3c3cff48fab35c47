"""Demonstrations of a run as rows: a file of them, or the right answers that a benchmark itself has.

A response is the text's tokens, nothing put in front, and one end token: what ends a turn in its prompt or,
where nothing does, the tokenizer's own. A text that says an end token itself ends there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.config.schema import RunConfig
from harness.model.decoding import left_padded
from harness.model.policy import Policy
from harness.model.text import CHAT_ENDS
from harness.problems import templates
from harness.problems.problem import Benchmark, Problem, Verdict, demonstration_of
from harness.rollout.settings import context_of
from harness.stages.batch import Batch
from harness.util.errors import UserError

#: Share of the demonstrations that may be longer than the context: they are left out.
LEFT_OUT_AT_MOST = 0.1
#: More tokens than any tokenizer puts around a prompt.
_AROUND = 16


@dataclass(frozen=True)
class Demonstration:
    """A prompt as it is given to the model, and the response to it."""

    problem: Problem
    text: str


class Demonstrations:
    """What a fine-tuning phase draws from.

    Attributes:
        problems: those with a demonstration that fits the context, in a fixed order.
        left_out: how many do not fit.
        told: what to say about them, a line each.
    """

    def __init__(self, run: RunConfig, policy: Policy, benchmark: Benchmark) -> None:
        """Read and check the demonstrations of ``run``; ``benchmark`` has its prompts.

        Raises:
            UserError: there are none, they are for another tokenizer, they are among the problems that the
                run is measured on, or too many do not fit.
        """
        self._policy = policy
        source = run.data.demonstrations
        found = list(_from_file(run, policy) if source else _own(run, benchmark))
        where = source or f"{benchmark.name}:{run.data.train_split}"
        if not found:
            raise UserError(f"{where} holds no demonstrations; name another file with data.demonstrations=…")
        _check_readable(policy, found, where)
        if source:
            _check_apart(run, benchmark, found, where)
        room = context_of(run, policy.max_positions)
        fitting = [d for d in found if self._fits(d, room)]
        self.left_out = len(found) - len(fitting)
        if self.left_out > LEFT_OUT_AT_MOST * len(found):
            raise UserError(
                f"{self.left_out} of {len(found)} demonstrations of {where} are longer than the context of "
                f"{room} tokens with their prompts; shorten them, or take a model with a longer context"
            )
        self._texts = {d.problem.id: d.text for d in fitting}
        self.problems: Sequence[Problem] = [d.problem for d in fitting]
        end = policy.pieces([self.tokens(self.problems[0])[1][-1]])[0]
        self.told = [f"{len(fitting)} demonstrations of {where}, each ended by {end!r}"]
        if self.left_out:
            self.told.append(f"{self.left_out} more are longer than the context of {room} tokens: left out")

    def tokens(self, problem: Problem) -> tuple[list[int], list[int]]:
        """Token ids of the prompt and of the response, its end token included."""
        return self._tokens(problem, self._texts[problem.id])

    def _tokens(self, problem: Problem, text: str) -> tuple[list[int], list[int]]:
        prompt, ends = self._policy.encode(problem.prompt), set(self._policy.eos_ids)
        response: list[int] = self._policy.tokenizer(text, add_special_tokens=False)["input_ids"]
        at = next((i for i, token in enumerate(response) if token in ends), None)
        if at is not None:
            return prompt, response[: at + 1]
        turn = next((token for token in reversed(prompt) if token in ends), self._policy.eos_id)
        return prompt, [*response, turn]

    def _fits(self, demonstration: Demonstration, room: int | None) -> bool:
        problem, text = demonstration.problem, demonstration.text
        if room is None or (
            problem.prompt.isascii() and text.isascii() and len(problem.prompt) + len(text) + _AROUND < room
        ):
            return True
        return sum(map(len, self._tokens(problem, text))) <= room

    def batch(self, problems: Sequence[Problem]) -> Batch:
        """A row for each of ``problems``: see :class:`harness.stages.requests.Demonstrate`."""
        rows, pad = [self.tokens(problem) for problem in problems], self._policy.pad_id
        prompt_BP, prompt_mask_BP = left_padded([prompt for prompt, _ in rows], pad)
        length_B = torch.tensor([len(response) for _, response in rows])
        width, count = int(length_B.max()), len(rows)
        ones = torch.ones(count)
        return Batch(
            prompt_BP=prompt_BP,
            prompt_mask_BP=prompt_mask_BP,
            response_BT=torch.tensor([[*r, *[pad] * (width - len(r))] for _, r in rows]),
            mask_BT=torch.arange(width) < length_B[:, None],
            group_B=torch.arange(count),
            sample_B=torch.zeros(count, dtype=torch.int64),
            temperature_B=ones,
            truncated_B=torch.zeros(count, dtype=torch.bool),
            rollout_logp_BT=torch.zeros(count, width),
            problems=tuple(problems),
            texts=tuple(self._texts[problem.id] for problem in problems),
            verdicts=(Verdict("right"),) * count,
            tags={"demonstration": ones, "extra": ones, "judged": torch.zeros(count)},
        )


def _own(run: RunConfig, benchmark: Benchmark) -> Iterator[Demonstration]:
    """The benchmark's right answers to its training problems."""
    for problem in benchmark.problems(run.data.train_split):
        text = demonstration_of(benchmark, problem)
        if text is None:
            raise UserError(
                f"benchmark '{benchmark.name}' has no right answers of its own; name a file of "
                "demonstrations with data.demonstrations=…"
            )
        yield Demonstration(problem, text)


def _from_file(run: RunConfig, policy: Policy) -> Iterator[Demonstration]:
    """The lines of a file: ``{"prompt": question, "response": text}``, in the run's template."""
    path = Path(run.data.demonstrations).expanduser()
    template = templates.find(run.data.template) if run.data.template else None
    if template is not None:
        template.check(policy.tokenizer)
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    question, text = _read(line, f"{path}:{number}")
                    prompt = template.render(question, policy.tokenizer) if template else question
                    yield Demonstration(Problem(f"{path.stem}/{number:06d}", prompt), text)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read data.demonstrations={path}: {error}; name a file of JSON lines"
        ) from error


def _read(line: str, where: str) -> tuple[str, str]:
    try:
        found = json.loads(line)
        prompt, response = found["prompt"], found["response"]
    except (ValueError, KeyError, TypeError):
        prompt = response = ""
    if not (isinstance(prompt, str) and isinstance(response, str) and prompt and response.strip()):
        raise UserError(f'{where} is no demonstration; write {{"prompt": "…", "response": "…"}} on each line')
    return prompt, response


def _check_readable(policy: Policy, found: Sequence[Demonstration], where: str) -> None:
    """
    Raises:
        UserError: the tokenizer cannot say what stands in a demonstration, or it has another model's marks.
    """
    tokenizer, model = policy.tokenizer, policy.source
    for character in sorted(set().union(*(d.text for d in found))):
        ids = tokenizer(character, add_special_tokens=False)["input_ids"]
        lost = not ids and character.isprintable()  # some leave out what they do not know
        lost = lost or (tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids)
        if lost and any(character in _said(tokenizer, d.text) for d in found):
            raise UserError(
                f"{where} has demonstrations with {character!r}, which the tokenizer of {model} does not "
                "know: they were made for another tokenizer; take those of this model's problems"
            )
    ends = set(policy.pieces(policy.eos_ids))
    for mark in CHAT_ENDS:
        if mark not in ends and any(mark in d.text for d in found):
            raise UserError(
                f"{where} has demonstrations with {mark}, which the tokenizer of {model} does not end a turn "
                "with: they were made for another tokenizer; leave such marks out of the responses"
            )


def _said(tokenizer: Any, text: str) -> str:
    """``text`` without its special tokens, whose characters need not be known by themselves."""
    for token in tokenizer.all_special_tokens:
        text = text.replace(token, "")
    return text


def _check_apart(
    run: RunConfig, benchmark: Benchmark, found: Sequence[Demonstration], where: str
) -> None:  # fmt: skip
    """
    Raises:
        UserError: a prompt is one that the run is measured on.
    """
    asked = {d.problem.prompt for d in found}
    for split in dict.fromkeys((run.data.validation_split, *run.eval.splits)):
        shared = sum(problem.prompt in asked for problem in benchmark.problems(split))
        if shared:
            raise UserError(
                f"{shared} problems of {benchmark.name}:{split} are among the demonstrations of {where}; "
                "take them out, or the scores say nothing"
            )
