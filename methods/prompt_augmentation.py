r"""Prompt augmentation (arXiv 2602.03190): a problem stands in a template of its own each time it is drawn.

    template  one of 13, uniform, for each prompt and step; the G rollouts of a group share it
    R         accuracy (0 or 1) + format: the share of the template's marks that stand in the response exactly
              once; 1 for templates that ask for no form
    A         (R - mean_group) / (std_group + 1e-6): what the whole group gets cancels

then the clipped loss, 0.2 / 0.28, mean over all tokens, no KL. Where a template's answer is opened already
(``-teacher``), the opening is part of the prompt and no mark of the response. Log-probs, old and current,
condition on the prompt in its template. Formal problems, which ask nothing in words, are put behind or in
front of a character instead (``marks``).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    Batch,
    ClippedMethod,
    Draw,
    Generate,
    Out,
    Problem,
    Program,
    Prompt,
    Reward,
    RolloutProgram,
    Stages,
    StepContext,
    Verify,
    check_chatml,
    grpo_stages,
    hp,
    is_text,
    question_of,
    register,
    turns,
    with_prompt,
)

if TYPE_CHECKING:
    from torch import Tensor

FAMILIES = ("auto", "papers", "marks")
_STEPS = "Let's think step by step.\n"
_BOX = "The final answer belongs in \\boxed{}."
_THINK = ("<think>\n", "\n</think>\n", "\n<answer>\n", "\n</answer>")
_BARE = ("<think>", "</think>", "<answer>", "</answer>")
_CHECK = ("<solution>\n", "\n</solution>\n", "\n<check>\nLet's verify step by step", "\n</check>")
_QWEN = "Please reason step by step, and put your final answer within \\boxed{}."
_FINAL = ("The final answer is:",)
_R1 = (
    "Think about the question first, then answer it. What you think stands on lines of its own between "
    "<think> and </think>, the answer likewise between <answer> and </answer>. " + _BOX
)
_ZERO = "The thoughts stand in <think> </think>, the answer that follows in <answer> </answer>. " + _BOX
_REFLECT = (
    "Write a solution on lines of its own between <solution> and </solution>. Then verify it between <check> "
    "and </check>, beginning with: Let's verify step by step. " + _BOX
)


@dataclass(frozen=True)
class Form:
    """A template: what stands around the question, how the answer begins, and what must occur once in it.

    Attributes:
        user: with ``{question}``.
        system: system turn; None for a formal problem, which has no turns.
        opened: beginning of the answer that the prompt holds already.
        marks: texts of which each is to occur exactly once in the response.
    """

    user: str = "{question}"
    system: str | None = None
    opened: str = ""
    marks: tuple[str, ...] = ()

    def prompt(self, problem: Problem) -> str:
        """The problem in this template."""
        user = self.user.replace("{question}", question_of(problem))
        return user if self.system is None else turns(self.system, user, self.opened)


#: The paper's 13, in its order: markers and phrases that are counted are the paper's, the prose is ours.
PAPERS = {
    "abel": Form("Question:\n{question}\nAnswer:", "You solve problems.", _STEPS),
    "simplerl": Form("{question}\nReason step by step. " + _BOX, "You solve problems."),
    "qwen-math": Form("{question}", _QWEN),
    "open-r1": Form("{question}", _R1, "", _THINK),
    "open-r1-teacher": Form("{question}", _R1, _THINK[0], _THINK[1:]),
    "deepseek-r1": Form("{question}", _ZERO, "", _BARE),
    "deepseek-r1-teacher": Form("{question}", _ZERO, _BARE[0], _BARE[1:]),
    "formal": Form("{question}", "Argue formally: definitions, then deductions. " + _BOX),
    "lm_eval_prompt1": Form(
        "Problem: {question}\nEnd with 'The final answer is: \\boxed{}'.", "You solve problems.", _STEPS,
        _FINAL,
    ),
    "lm_eval_prompt4": Form(
        "{question}\nWork it out and write 'The final answer is: \\boxed{}' last.", "You solve problems.", "",
        _FINAL,
    ),
    "lm_eval_prompt8": Form("Q: {question}\nA:", "You solve problems. " + _BOX, _STEPS),
    "reflective_prompt": Form("{question}", _REFLECT, "", _CHECK),
    "reflective_prompt-teacher": Form("{question}", _REFLECT, _CHECK[0], _CHECK[1:]),
}  # fmt: skip
#: What stands for them where problems are formal: a character more, and digits that are to occur once.
MARKS = {
    "bare": Form(),
    "doubled": Form("{question}="),
    "colon": Form(":{question}", marks=("1",)),
    "greater": Form(">{question}", marks=("1", "2")),
}
FORMS = {**PAPERS, **MARKS}
NAMES = tuple(FORMS)


def format_reward(text: str, marks: Sequence[str]) -> float:
    """The share of ``marks`` that occur exactly once in ``text``; 1 where there are none."""
    return sum(text.count(mark) == 1 for mark in marks) / len(marks) if marks else 1.0


def drawn(rng: random.Random, names: Sequence[str], n: int) -> list[str]:
    """``n`` independent uniform draws, one ``choice`` each."""
    return [rng.choice(list(names)) for _ in range(n)]


@dataclass(frozen=True)
class AugmentedRollout(RolloutProgram):
    """The plain rollouts of prompts in drawn templates; tags each row with the number of its template."""

    family: str = "auto"

    writes_tags = frozenset({"template"})

    def run(self, ctx: StepContext) -> Program:
        problems = yield Draw(ctx.prompts_per_step)
        papers = [self.family == "papers" or (self.family == "auto" and is_text(p)) for p in problems]
        if any(papers):
            instead = "train a model that has it, or set method.templates=marks"
            check_chatml(ctx.encode, "prompt-augmentation", instead)
        rng = random.Random(ctx.generator("templates").initial_seed())
        names = [drawn(rng, list(PAPERS if paper else MARKS), 1)[0] for paper in papers]
        prompts = [
            Prompt(self.in_form(problem, FORMS[name]), group, rewritten=True)
            for group, (problem, name) in enumerate(zip(problems, names, strict=True))
        ]
        batch = yield Generate(prompts, ctx.group_size)
        number = torch.tensor([float(NAMES.index(name)) for name in names])
        return (yield Verify(batch.with_tags(template=number.repeat_interleave(ctx.group_size))))

    def in_form(self, problem: Problem, form: Form) -> Problem:
        """``problem`` in a template; an answer in a box is graded as one, whatever the run's own template."""
        boxed = form.system is not None and "grader" in problem.meta
        return with_prompt(problem, form.prompt(problem), **({"grader": "math-verify"} if boxed else {}))


@dataclass(frozen=True)
class FormReward(Reward):
    """Accuracy plus the format reward of the row's template; rows that were put in none have 1."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        number_B = batch.tag("template")
        forms = [FORMS[NAMES[int(number)]] for number in number_B.tolist()]
        form_B = torch.tensor([format_reward(t, f.marks) for t, f in zip(batch.texts, forms, strict=True)])
        metrics = {
            "prompt_augmentation/format": float(form_B.mean()),
            "prompt_augmentation/templates": float(len(number_B.unique())),
        }
        return Out(batch.correct_B + form_B.to(batch.correct_B.dtype), metrics)


@register("prompt-augmentation")
@dataclass(frozen=True)
class PromptAugmentation(ClippedMethod):
    """GRPO on prompts in templates that change, with a reward for keeping to their forms."""

    templates: str = hp("auto", "the paper's, or marks for formal problems; auto asks each", choices=FAMILIES)
    eps_high: float = hp(0.28, "ratio clip above 1", ge=0)

    def stages(self) -> Stages:
        return grpo_stages().with_(
            rollout=AugmentedRollout(self.templates), reward=FormReward(), loss=self.clipped_loss()
        )
