"""Tasks that a policy proposes to itself: a program with inputs and what it gives for them.

Three kinds: find the output, find an input, find the program. :class:`TaskBuffer` keeps tasks from step to
step; a :class:`Dialect` writes prompts and reads what the policy answers, for a character model or in text.
Programs are of our own small language (:mod:`harness.grading.programs`), run by workers that can be killed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from harness.grading.programs.runner import Ask, ProgramRunner, Ran
from harness.problems.problem import Problem, Verdict
from harness.stages.base import Component

INPUT, OUTPUT, FUNCTION = "code_i", "code_o", "code_f"
#: Kinds of tasks: what is asked for is the input, the output, or the program.
TASK_KINDS = (INPUT, OUTPUT, FUNCTION)
_NUMBER = re.compile(r"-?\d+")


@dataclass(frozen=True)
class Task:
    """A program, inputs, and its output for each. Of the kinds with one input the first pair counts."""

    program: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def plain(self) -> list[Any]:
        return [self.program, list(self.inputs), list(self.outputs)]

    @classmethod
    def of(cls, values: Sequence[Any]) -> Task:
        return cls(str(values[0]), tuple(values[1]), tuple(values[2]))

    @property
    def shown(self) -> int:
        """Pairs that who looks for the program is shown; the others test it."""
        return max(1, len(self.inputs) // 2)


class Dialect(Protocol):
    """How tasks stand in prompts and responses."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names that a program without a head is a function of."""

    @property
    def seeds(self) -> Mapping[str, tuple[Task, ...]]:
        """What a buffer starts with, by kind."""

    def propose(self, kind: str, references: Sequence[Task]) -> str:
        """The prompt that asks for a task; for the kind ``code_f`` for inputs to the first one's program."""

    def proposal(self, kind: str, text: str, program: str) -> tuple[str, tuple[str, ...]] | None:
        """Program and inputs of a response to that; None without the form. ``program`` is of ``code_f``."""

    def solve(self, kind: str, task: Task) -> str:
        """The prompt of a task."""

    def answer(self, kind: str, text: str) -> str | None:
        """What a response to it says; None without the form."""

    def fits(self, task: Task) -> bool:
        """Whether a prompt has room for the task."""


class Characters:
    """For a model of the testbed's characters: integers, one input ``D``, a handful of signs.

    ``@`` asks for a task, ``:`` for an output, ``>`` for an input, ``~`` for a program. A program that does
    not name ``D`` is added to it. An answer is the first integer of a response, a program the whole of it.
    """

    parameters = ("D",)
    seeds = {
        INPUT: (Task("D+1", ("3",), ("4",)), Task("D*2", ("4",), ("8",))),
        OUTPUT: (Task("D+1", ("3",), ("4",)), Task("D*2", ("4",), ("8",))),
        FUNCTION: (Task("D+1", ("3", "5"), ("4", "6")), Task("D*2", ("4", "5"), ("8", "10"))),
    }
    _SIGNS = {INPUT: ">", OUTPUT: ":", FUNCTION: "~"}
    #: Characters of a prompt at most: a context of 64 less the longest response.
    longest = 36

    def propose(self, kind: str, references: Sequence[Task]) -> str:
        first = references[0]
        shown = "" if kind == FUNCTION else f",{first.inputs[0]}"
        return f"@{self._SIGNS[kind]}{first.program}{shown}="

    def proposal(self, kind: str, text: str, program: str) -> tuple[str, tuple[str, ...]] | None:
        if kind == FUNCTION:
            inputs = tuple(dict.fromkeys(text.split(",")))
            good = len(inputs) > 1 and all(_NUMBER.fullmatch(one) for one in inputs)
            return (program, inputs) if good else None
        body, comma, given = text.rpartition(",")
        if not (comma and body and _NUMBER.fullmatch(given)):
            return None
        return self._of_input(body), (given,)

    def _of_input(self, body: str) -> str:
        if "D" in body:
            return body
        return f"D{body}" if body[0] in "+-*/" else f"D+{body}"

    def solve(self, kind: str, task: Task) -> str:
        if kind == FUNCTION:
            pairs = zip(task.inputs[: task.shown], task.outputs, strict=False)
            return "~" + ",".join(f"{a}>{b}" for a, b in pairs) + "="
        return f"{self._SIGNS[kind]}{task.program},{(task.outputs if kind == INPUT else task.inputs)[0]}="

    def answer(self, kind: str, text: str) -> str | None:
        if kind == FUNCTION:
            return self._of_input(text) if text else None
        found = _NUMBER.search(text)
        return found[0] if found else None

    def fits(self, task: Task) -> bool:
        prompts = [self.solve(kind, task) for kind in TASK_KINDS] + [self.propose(OUTPUT, [task])]
        numbers = all(_NUMBER.fullmatch(value) for value in (*task.inputs, *task.outputs))
        return numbers and max(map(len, prompts)) <= self.longest


_LANGUAGE = """A program is f(x) = and an expression. It may use integers, 'texts', [lists], + - * / % == < >,
if a then b else c, [e for v in list if c], abs int len max min range(a, b) reverse sort str sum, f itself.
"""
_GREETING = Task("f(x) = x", ("'Hello World'",), ("'Hello World'",))
_DOUBLED = Task("f(x) = x*2+1", ("3",), ("7",))


class Text:
    """For language models: the language is described in words, answers stand on a line."""

    parameters = ("x",)
    seeds = {
        INPUT: (
            Task("f(x) = x", ("'Hello World'",), ("'Hello World'",)),
            Task("f(x) = x*2+1", ("3",), ("7",)),
        ),
        OUTPUT: (
            Task("f(x) = x", ("'Hello World'",), ("'Hello World'",)),
            Task("f(x) = x*2+1", ("3",), ("7",)),
        ),
        FUNCTION: (
            Task("f(x) = x*2+1", ("3", "4", "5", "0"), ("7", "9", "11", "1")),
            Task("f(x) = len(x)", ("'a'", "[1, 2]", "''", "'abc'"), ("1", "2", "0", "3")),
        ),
    }
    #: Characters of a task at most.
    longest = 600

    def propose(self, kind: str, references: Sequence[Task]) -> str:
        if kind == FUNCTION:
            given = f"Program: {references[0].program}\n"
            return f"{_LANGUAGE}{given}Give four inputs for it, with ; between them.\nInputs:"
        shown = "".join(f"Program: {t.program}\nInput: {t.inputs[0]}\n" for t in references)
        wanted = "Write a new program with an input for which it is hard to tell the output.\n"
        return f"{_LANGUAGE}{wanted}{shown}Program:"

    def proposal(self, kind: str, text: str, program: str) -> tuple[str, tuple[str, ...]] | None:
        if kind == FUNCTION:
            inputs = tuple(dict.fromkeys(one.strip() for one in _first_line(text).split(";") if one.strip()))
            return (program, inputs[:10]) if len(inputs) > 1 else None
        found = re.match(r"\s*(f\(.*)\n\s*Input:(.+)", text)
        return (found[1].strip(), (found[2].strip(),)) if found else None

    def solve(self, kind: str, task: Task) -> str:
        if kind == FUNCTION:
            pairs = zip(task.inputs[: task.shown], task.outputs, strict=False)
            return _LANGUAGE + "".join(f"f({a}) gives {b}\n" for a, b in pairs) + "Program:"
        if kind == INPUT:
            return f"{_LANGUAGE}Program: {task.program}\nOutput: {task.outputs[0]}\nInput:"
        return f"{_LANGUAGE}Program: {task.program}\nInput: {task.inputs[0]}\nOutput:"

    def answer(self, kind: str, text: str) -> str | None:
        return _first_line(text) or None

    def fits(self, task: Task) -> bool:
        return len(task.program) + sum(map(len, (*task.inputs, *task.outputs))) <= self.longest


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].strip()


#: How tasks are written and shown, by name.
DIALECTS: dict[str, Dialect] = {"characters": Characters(), "text": Text()}


class TaskBuffer(Component):
    """Tasks by kind, seeded by the dialect; at most ``most`` of a kind, the oldest go first."""

    def __init__(self, dialect: Dialect, most: int) -> None:
        self.most = most
        self.tasks = {kind: list(dialect.seeds[kind]) for kind in TASK_KINDS}
        self._known = {kind: set(tasks) for kind, tasks in self.tasks.items()}

    def add(self, kind: str, task: Task) -> bool:
        """Keep ``task``, if it is new; whether it was."""
        if task in self._known[kind]:
            return False
        self.tasks[kind].append(task)
        self._known[kind].add(task)
        for old in self.tasks[kind][: -self.most]:
            self._known[kind].discard(old)
        del self.tasks[kind][: -self.most]
        return True

    def state_dict(self) -> dict[str, Any]:
        return {kind: [task.plain() for task in tasks] for kind, tasks in self.tasks.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.tasks = {kind: [Task.of(values) for values in state[kind]] for kind in TASK_KINDS}
        self._known = {kind: set(tasks) for kind, tasks in self.tasks.items()}


def _runner() -> ProgramRunner:
    """The workers of this process, started with the first program."""
    return _runner_of(os.getpid())


@cache
def _runner_of(pid: int) -> ProgramRunner:
    """A forked process has workers of its own."""
    return ProgramRunner()


def check_proposals(dialect: Dialect, problems: Sequence[Problem], texts: Sequence[str]) -> list[Verdict]:
    """Right where a response is a task whose program runs, with the task as JSON for its canonical form."""
    read = [
        dialect.proposal(p.meta["kind"], text, p.meta["program"])
        for p, text in zip(problems, texts, strict=True)
    ]
    asks = [Ask(one[0], one[1], dialect.parameters) for one in read if one is not None]
    ran = iter(_runner().run_all(asks))
    verdicts = []
    for one in read:
        task = None if one is None else _task(one, next(ran))
        if one is None:
            verdicts.append(Verdict("unparsed"))
        elif task is None or not dialect.fits(task):
            verdicts.append(Verdict("wrong"))
        else:
            verdicts.append(Verdict("right", json.dumps(task.plain())))
    return verdicts


def _task(read: tuple[str, tuple[str, ...]], ran: Ran) -> Task | None:
    """The task whose program was run, if it gives an output for every input."""
    outputs = tuple(one for one in ran.outputs if one is not None)
    good = ran.status == "ran" and len(outputs) == len(read[1])
    return Task(*read, outputs) if good else None


def check_answers(dialect: Dialect, problems: Sequence[Problem], texts: Sequence[str]) -> list[Verdict]:
    """Right where a response solves its task; any input that gives the output, any program that fits."""
    answers = [dialect.answer(p.meta["kind"], text) for p, text in zip(problems, texts, strict=True)]
    tasks = [Task.of(json.loads(p.answer)) for p in problems]
    asks: list[Ask] = []
    for problem, task, answer in zip(problems, tasks, answers, strict=True):
        asks += [] if answer is None else _asks(problem.meta["kind"], task, answer, dialect.parameters)
    ran = iter(_runner().run_all(asks))
    return [
        Verdict("unparsed")
        if answer is None
        else _verdict(p.meta["kind"], task, answer, next(ran), next(ran))
        for p, task, answer in zip(problems, tasks, answers, strict=True)
    ]


def _asks(kind: str, task: Task, answer: str, parameters: tuple[str, ...]) -> list[Ask]:
    """What to run for an answer: whether it can be read, and what it comes to."""
    if kind == FUNCTION:
        made = Ask(answer, task.inputs, parameters)
        return [made, made]
    value = Ask(f"[{answer}]" if kind == INPUT else answer)
    return [value, Ask(task.program, (answer,), parameters) if kind == INPUT else value]


def _verdict(kind: str, task: Task, answer: str, read: Ran, ran: Ran) -> Verdict:
    if read.status == "timeout" or ran.status == "timeout":
        return Verdict("timeout")
    if read.status != "ran" or (kind != FUNCTION and None in read.outputs):
        return Verdict("unparsed")
    wanted = task.outputs if kind == FUNCTION else task.outputs[:1]
    return Verdict("right" if ran.outputs == wanted else "wrong", answer)
