"""Prompts that do not fit the model's context, found before the first step, and before a sweep is submitted.

Of the training and the validation problems a few may be left out: the run says how many, and so does its
record. Test problems are never left out, since a score over fewer problems is another score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.config.schema import RunConfig
from harness.evaluation.in_run import check_prompts
from harness.model.text import encode
from harness.problems import templates
from harness.problems.problem import Benchmark, Problem, Verdict, demonstration_of, verify_all
from harness.registry import benchmarks
from harness.util.errors import UserError

#: Share of a split's problems that may be left out.
LEFT_OUT_AT_MOST = 0.1
#: More tokens than any tokenizer puts around a text.
_AROUND = 16


@dataclass
class Reader:
    """A tokenizer, loaded when a prompt has to be read, and the context that prompts and responses share.

    Attributes:
        max_positions: None where the model has no limit.
    """

    load: Callable[[], Any]
    max_positions: int | None

    @cached_property
    def tokenizer(self) -> Any:
        return self.load()

    def encode(self, prompt: str) -> list[int]:
        return encode(self.tokenizer, prompt)

    def longer_than(self, room: int, problems: Sequence[Problem]) -> dict[str, int]:
        """``{id: tokens}`` of the problems whose prompts have more than ``room`` tokens."""
        unsure = [p for p in problems if not (p.prompt.isascii() and len(p.prompt) + _AROUND <= room)]
        return {p.id: count for p in unsure if (count := len(self.encode(p.prompt))) > room}


class Fitting:
    """A benchmark without the problems whose prompts do not fit.

    Attributes:
        left_out: split -> how many problems are left out of it.
        told: what to say about it, a line per split.
    """

    def __init__(self, benchmark: Benchmark, lost: Mapping[str, Mapping[str, int]], told: list[str]) -> None:
        self._benchmark, self._lost, self.told = benchmark, lost, told
        self.name, self.version = benchmark.name, benchmark.version
        self.left_out = {
            split: len(benchmark.problems(split)) - len(self.problems(split)) for split in lost
        }  # fmt: skip

    def splits(self) -> Sequence[str]:
        return self._benchmark.splits()

    def problems(self, split: str) -> Sequence[Problem]:
        lost = self._lost.get(split, {})
        return [p for p in self._benchmark.problems(split) if p.id not in lost]

    def verify(self, problem: Problem, text: str) -> Verdict:
        return self._benchmark.verify(problem, text)

    def demonstration(self, problem: Problem) -> str | None:
        return demonstration_of(self._benchmark, problem)

    def verify_all(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Verdict]:
        return verify_all(self._benchmark, problems, texts)

    def fingerprint(self) -> str:
        return self._benchmark.fingerprint()


def templated(run: RunConfig, tokenizer: Callable[[], Any]) -> Benchmark:
    """The run's benchmark, in the template that ``data.template`` names.

    Raises:
        UserError: a template that is not for this model.
    """
    benchmark: Benchmark = benchmarks.load(run.data.benchmark)
    if not run.data.template:
        return benchmark
    return templates.Templated(benchmark, templates.find(run.data.template), tokenizer())


def fitting(run: RunConfig, benchmark: Benchmark, read: Reader) -> Benchmark:
    """``benchmark``, without the training and validation problems that do not fit.

    Raises:
        UserError: too many do not, or a test problem does not.
    """
    check_prompts(run, read)
    _check_budget(run, benchmark, read)
    if read.max_positions is None:
        return benchmark
    room = read.max_positions - run.rollout.max_response_tokens
    lost, told = {}, []
    for split in dict.fromkeys((run.data.train_split, run.data.validation_split, *run.eval.splits)):
        problems = benchmark.problems(split)
        long = read.longer_than(room, problems)
        if not long:
            continue
        where, count = f"{benchmark.name}:{split}", sum(p.id in long for p in problems)
        words = (
            f"{count} of {len(problems)} prompts of {where}, up to {max(long.values())} tokens long, do "
            f"not fit the context of {read.max_positions} with rollout.max_response_tokens="
            f"{run.rollout.max_response_tokens}"
        )
        measured = split not in (run.data.train_split, run.data.validation_split)
        if measured or count > LEFT_OUT_AT_MOST * len(problems):
            raise UserError(f"{words}; {_remedy(read.max_positions - max(long.values()))}")
        lost[split] = long
        told.append(f"{words}: left out")
    return Fitting(benchmark, lost, told) if lost else benchmark


def _check_budget(run: RunConfig, benchmark: Benchmark, read: Reader) -> None:
    """
    Raises:
        UserError: a pass may not hold the tokens of one rollout.
    """
    budget, response = run.train.micro_batch_tokens, run.rollout.max_response_tokens
    if budget is None:
        return
    long = read.longer_than(budget - response, benchmark.problems(run.data.train_split))
    if long:
        raise UserError(
            f"train.micro_batch_tokens={budget} is less than a prompt of {max(long.values())} tokens with a "
            f"response of {response}; write {max(long.values()) + response} or more"
        )


def _remedy(room: int) -> str:
    lower = f"write rollout.max_response_tokens={room} or less, or " if room > 0 else ""
    return f"{lower}take a model with a longer context"
