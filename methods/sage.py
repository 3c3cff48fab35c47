r"""SAGE: self-hinted GRPO with privileged supervision (arXiv 2602.03143).

A prompt whose rollouts all fail is sampled again with a hint in its context, of growing strength, and the
update is made on the hinted prompt: old and current log-probs condition on (x, hint). There is no hint at
evaluation.

    sage@full    l = 0: G rollouts of every prompt. For l = 1 .. 3: the prompts without a right response that
                 have hints are sampled with hint l; these G rollouts REPLACE those before. What is unresolved
                 behind l = 3 keeps its last group, whose advantage is 0
    sage@light   one pass, at the level that the last visit left behind: first visit 0; accuracy <= min_acc
                 raises it (at most 3), accuracy > max_acc lowers it (at least 0). ``rule=paper`` raises it
                 below max_acc and never lowers it

The policy itself writes the three hints, in one response, from question and reference solution. A formal
problem, which asks nothing in words, is opened with the first part of its solution instead. Advantage and
loss are GRPO's with clip 0.2 / 0.28 and the mean over all tokens.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from entrobench import (
    Batch,
    ClippedMethod,
    Component,
    Draw,
    Generate,
    Out,
    Problem,
    Program,
    Prompt,
    RolloutProgram,
    RunConfig,
    Stages,
    StepContext,
    UserError,
    VerdictReward,
    Verify,
    behind_question,
    grpo_stages,
    hp,
    is_text,
    question_of,
    register,
    replaced_groups,
    rows_by_group,
    solution_of,
    with_prompt,
)

if TYPE_CHECKING:
    from torch import Tensor

#: Levels of hints; 0 is none.
LEVELS = 3
SOURCES = ("auto", "policy", "solution")
RULES = ("released", "paper")
#: How often the policy is asked for hints until they can be read.
ATTEMPTS = 3
#: Streams of a problem's draws within a step: those of hints lie behind those of levels.
_HINT_STREAM = LEVELS + 1
_HINT = re.compile(
    r"""["']?level_(\d)["']?\s*:\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')""",
    re.S,
)
_SYSTEM = (
    "You write hints. From a question and its solution write three hints that help more and more and never "
    "give the answer away: level_1 names the idea, level_2 the method, level_3 the steps. Reply with JSON "
    "alone: "
    '{"level_1": "...", "level_2": "...", "level_3": "..."}'
)
_ASK = "Question: {question}\nSolution: {solution}"
_EXAMPLE = (
    ("Write two numbers whose sum is 12.", "5 + 7"),
    '{"level_1": "Think of how a sum grows.", "level_2": "Fix one number and look for the other.", '
    '"level_3": "Take 5 first; what is left to 12 is the other."}',
)


def resolved(correct_B: Tensor, group_B: Tensor) -> dict[int, bool]:
    """Whether some rollout of each group is right."""
    return {int(group_B[rows[0]]): bool((correct_B[rows] > 0).any()) for rows in rows_by_group(group_B)}


def next_level(
    level: int, accuracy: float | None, low: float, high: float, *, top: int = LEVELS, rule: str = "released"
) -> int:
    """The light rule: the level of this visit from that of the last one and its accuracy.

    Args:
        accuracy: None on the first visit.
        rule: ``paper`` only raises, where the accuracy is below ``high``.
    """
    if accuracy is None:
        return 0
    if rule == "paper":
        return min(level + 1, top) if accuracy < high else level
    if accuracy <= low:
        return min(level + 1, top)
    return max(level - 1, 0) if accuracy > high else level


def read_hints(text: str, levels: int = LEVELS) -> tuple[str, ...] | None:
    """The hints of a response by level, or None unless all of them are there and none is empty.

    JSON in either kind of quotes, with whatever stands around it.
    """
    found = {int(level): (double or single).strip() for level, double, single in _HINT.findall(text)}
    hints = tuple(found.get(level, "") for level in range(1, levels + 1))
    return hints if all(hints) else None


def opening(solution: Sequence[int], level: int, levels: int = LEVELS) -> tuple[int, ...]:
    """The first ``level / (levels + 1)`` of a solution's tokens, and never all of them."""
    return tuple(solution[: min(round(len(solution) * level / (levels + 1)), len(solution) - 1)])


class HintMemory(Component):
    """Level, accuracy and last hints of each problem at its last visit: one entry for each problem."""

    def __init__(self, low: float, high: float, rule: str) -> None:
        self.low, self.high, self.rule = low, high, rule
        self.visits: dict[str, list[Any]] = {}
        self.hints: dict[str, list[str]] = {}

    def state_dict(self) -> dict[str, Any]:
        return {
            "visits": {k: list(v) for k, v in self.visits.items()},
            "hints": {k: list(v) for k, v in self.hints.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.visits = {k: [int(v[0]), float(v[1])] for k, v in state["visits"].items()}
        self.hints = {k: list(v) for k, v in state["hints"].items()}

    def level(self, problem: Problem) -> int:
        """The level of this visit."""
        last, accuracy = self.visits.get(problem.id, (0, None))
        return next_level(last, accuracy, self.low, self.high, rule=self.rule)

    def before_update(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        """Take in the accuracy of the step's prompts at the levels that they were sampled at."""
        level_B = batch.tag("level")
        for rows in rows_by_group(batch.group_B):
            accuracy = float(batch.correct_B[rows].double().mean())
            self.visits[batch.problems[rows[0]].id] = [int(level_B[rows[0]]), accuracy]
        return {"sage/known_problems": float(len(self.visits))}


@dataclass(frozen=True)
class HintedRollout(RolloutProgram):
    """What both programs share: hints, and prompts with a hint in their context."""

    source: str
    hint_tokens: int

    engine_needs = frozenset({"prefix"})
    writes_tags = frozenset({"level", "extra"})

    def by_policy(self, problem: Problem) -> bool:
        """Whether the policy writes the hints of ``problem``."""
        return self.source == "policy" or (self.source == "auto" and is_text(problem))

    def written(
        self, prompts: Sequence[Prompt], ctx: StepContext
    ) -> Generator[Any, Any, dict[int, tuple[str, ...]]]:
        """Hints by group, of the prompts whose hints the policy writes; those that fail have none."""
        found: dict[int, tuple[str, ...]] = {}
        for attempt in range(ATTEMPTS):
            asked = [p for p in prompts if p.group not in found and self.by_policy(p.problem)]
            if not asked:
                break
            requests = [
                Prompt(
                    with_prompt(p.problem, ask(p.problem, ctx)), p.group, stream=_HINT_STREAM + attempt,
                    rewritten=True,
                )
                for p in asked
            ]  # fmt: skip
            batch = yield Generate(requests, 1, max_tokens=self.hint_tokens)
            for group, text in zip(batch.group_B.tolist(), batch.texts, strict=True):
                hints = read_hints(text)
                if hints is not None:
                    found[group] = hints
        return found

    def hinted(
        self, prompt: Prompt, level: int, hints: Sequence[str] | None, ctx: StepContext
    ) -> Prompt | None:
        """``prompt`` with the hint of ``level``; None where there is none."""
        problem = prompt.problem
        if not level:
            return prompt
        if self.by_policy(problem):
            if hints is None:
                return None
            text = behind_question(problem, f"\nHint: {hints[level - 1]}")
            return Prompt(with_prompt(problem, text), prompt.group, stream=level, rewritten=True)
        start = opening(ctx.encode(solution_of(problem)), level)
        return (
            Prompt(problem, prompt.group, prefix=start, judged_prefix=True, stream=level) if start else None
        )

    def judged(self, prompts: Sequence[Prompt], levels: Mapping[int, int], ctx: StepContext) -> Program:
        """The verified rollouts of ``prompts``, tagged with the level of their group."""
        batch = yield Generate(prompts, ctx.group_size)
        batch = yield Verify(batch)
        level_B = torch.tensor([float(levels[group]) for group in batch.group_B.tolist()])
        return batch.with_tags(level=level_B, extra=(level_B > 0).float())


def ask(problem: Problem, ctx: StepContext) -> str:
    """The prompt that has the policy write hints, after one worked example.

    Raises:
        UserError: the model has no chat template.
    """
    (question, solution), hints = _EXAMPLE
    turns = [
        ("system", _SYSTEM),
        ("user", _ASK.format(question=question, solution=solution)),
        ("assistant", hints),
        ("user", _ASK.format(question=question_of(problem), solution=solution_of(problem))),
    ]
    try:
        return ctx.chat([{"role": role, "content": text} for role, text in turns])
    except UserError as error:
        raise UserError(
            f"sage has the policy write its hints in a chat, and {error}; set method.hints=solution"
        ) from error


def need_solutions(problems: Sequence[Problem], ctx: StepContext) -> None:
    """Refuse a problem set that knows neither solutions nor answers.

    Raises:
        UserError: none of the first step's problems has one.
    """
    if ctx.step == 1 and not any(solution_of(problem) for problem in problems):
        raise UserError(
            "sage makes its hints from a reference solution or answer, and no problem of the first step has "
            "one; choose another data.benchmark"
        )


@dataclass(frozen=True)
class RisingHints(HintedRollout):
    """``sage@full``: the groups that stay without a right response are sampled anew, level by level."""

    def run(self, ctx: StepContext) -> Program:
        problems = yield Draw(ctx.prompts_per_step)
        need_solutions(problems, ctx)
        prompts = [Prompt(problem, group) for group, problem in enumerate(problems)]
        batch = yield from self.judged(prompts, dict.fromkeys(range(len(prompts)), 0), ctx)
        solved = resolved(batch.correct_B, batch.group_B)
        failed = [p for p in prompts if not solved[p.group] and solution_of(p.problem)]
        hints = yield from self.written(failed, ctx)
        for level in range(1, LEVELS + 1):
            open_ = [p for p in failed if not solved[p.group]]
            again = [self.hinted(p, level, hints.get(p.group), ctx) for p in open_]
            asked = [p for p in again if p is not None]
            if asked:
                new = yield from self.judged(asked, {p.group: level for p in asked}, ctx)
                batch = replaced_groups(batch, new)
                solved |= resolved(new.correct_B, new.group_B)
        return batch


@dataclass(frozen=True)
class RememberedHints(HintedRollout):
    """``sage@light``: one pass, each prompt at the level that its last visit left behind."""

    memory: HintMemory

    def run(self, ctx: StepContext) -> Program:
        problems = yield Draw(ctx.prompts_per_step)
        need_solutions(problems, ctx)
        prompts = [Prompt(problem, group) for group, problem in enumerate(problems)]
        levels = {p.group: self.memory.level(p.problem) for p in prompts}
        wanted = [p for p in prompts if levels[p.group] and solution_of(p.problem)]
        hints = yield from self.written(wanted, ctx)
        for prompt in wanted:
            if prompt.group in hints:
                self.memory.hints[prompt.problem.id] = list(hints[prompt.group])
        final = []
        for prompt in prompts:
            known = self.memory.hints.get(prompt.problem.id)
            hinted = self.hinted(prompt, levels[prompt.group], known, ctx) if prompt in wanted else None
            if hinted is None:
                levels[prompt.group] = 0
            final.append(hinted or prompt)
        return (yield from self.judged(final, levels, ctx))


@dataclass(frozen=True)
class LevelVerdict(VerdictReward):
    """The verdict; logs at which levels the step's groups were sampled."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        out = super().__call__(batch, ctx)
        level_B = batch.tags.get("level")
        if level_B is None:
            return out
        return Out(
            out.value,
            {"sage/level": float(level_B.mean()), "sage/hinted": float((level_B > 0).float().mean())},
        )


@dataclass(frozen=True)
class Hinted(ClippedMethod):
    """What both entries share."""

    hints: str = hp("auto", "who writes them; auto: the policy where problems ask in words", choices=SOURCES)
    hint_tokens: int = hp(512, "token limit of the response that holds the hints", ge=1)
    eps_high: float = hp(0.28, "ratio clip above 1", ge=0)

    def finished(self, rollout: RolloutProgram) -> Stages:
        """All stages but the memory."""
        return grpo_stages().with_(rollout=rollout, reward=LevelVerdict(), loss=self.clipped_loss())


@register("sage@full")
@dataclass(frozen=True)
class SAGE(Hinted):
    """GRPO whose failed groups are sampled again with hints that grow."""

    def stages(self) -> Stages:
        return self.finished(RisingHints(self.hints, self.hint_tokens))


@register("sage@light")
@dataclass(frozen=True)
class SAGELight(Hinted):
    """GRPO with one hint level for each prompt, which follows the accuracy of its last visit."""

    min_acc: float = hp(0.1, "accuracy up to which the level rises (rule=released)", ge=0, lt=1)
    max_acc: float = hp(0.35, "accuracy above which it falls; below which it rises (rule=paper)", gt=0, le=1)
    rule: str = hp("released", "the code's rule, or the paper's, which never lowers", choices=RULES)

    def validate(self, run: RunConfig) -> None:
        if self.rule == "released" and self.min_acc >= self.max_acc:
            raise UserError("method.min_acc must be below method.max_acc")

    def stages(self) -> Stages:
        memory = HintMemory(self.min_acc, self.max_acc, self.rule)
        rollout = RememberedHints(self.hints, self.hint_tokens, memory)
        return self.finished(rollout).with_(components={"sage": memory})
