"""Prompt templates: how a question becomes the text that a model is given.

Functional strings (role markers, ``\\boxed{}``, ``Answer:``) are those of the papers, because scores depend
on them; prose of a template whose ``wording`` is ``ours`` was written for this project.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any, Literal

from harness.problems.problem import Benchmark, Problem, Verdict, demonstration_of, verify_all
from harness.util.errors import UserError, unknown

#: The day that chat templates with today's date are told: the one that Llama 3.1's names where nobody tells
#: it. With the true day the same question would be another prompt tomorrow, in a run that goes on, too.
TODAY = datetime(2024, 7, 26)
#: Letters of strftime; ``%-d`` is ``%d`` without its zero.
_FIELDS = (*"aAbBcdHIjmMpSUwWxXyYFDT", *("-" + c for c in "dHIjmMS"))
#: Renderings that have to be equal: a template may draw from its phrases.
_RENDERINGS = 5

_QUESTION = "What is 6 times 7?"
_BOXED = "Please reason step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True)
class Template:
    """``text`` stands alone, or ``system`` and ``text`` are turns of the model's own chat template.

    Attributes:
        text: with ``{question}`` where the question goes.
        chat: needs the model's chat template.
        system: system turn, with ``chat`` only; None leaves it to the chat template.
        tokens: markers in ``text`` that must be single tokens of the tokenizer.
        stop_texts: texts after which nothing of interest comes.
        grader: the grader that reads the answer where this template asks for it.
        wording: where the words come from.
    """

    name: str
    text: str
    about: str
    chat: bool = False
    system: str | None = None
    tokens: tuple[str, ...] = ()
    stop_texts: tuple[str, ...] = ()
    grader: str = "math-verify"
    wording: Literal["published", "ours"] = "published"

    def render(self, question: str, tokenizer: Any = None) -> str:
        """The prompt for ``question``; ``tokenizer`` is needed where :attr:`chat` is set.

        Raises:
            UserError: the chat template refuses the turns, or leaves out what they say.
        """
        text = self.text.replace("{question}", question)
        if not self.chat:
            return text
        turns = [{"role": "system", "content": self.system}] if self.system else []
        turns.append({"role": "user", "content": text})
        try:
            rendered = render_chat(tokenizer, turns)
        except UserError as error:
            raise UserError(f"template '{self.name}': {error}; {self._instead(tokenizer)}") from error
        for turn in turns:  # chat templates strip what stands around a text
            if turn["content"].strip() not in rendered:
                raise UserError(
                    f"template '{self.name}': the chat template of {_model(tokenizer)} leaves out what the "
                    f"{turn['role']} turn says; {self._instead(tokenizer)}"
                )
        return rendered

    def _instead(self, tokenizer: Any) -> str:
        """What to use where the chat template does not take the turns."""
        try:
            if self.system:
                replace(self, system=None).render(_QUESTION, tokenizer)
                return "use template=chat-boxed, which has no system turn"
        except UserError:
            return "use template=plain, which needs no chat template"
        return "use template=plain, which needs no chat template"

    def check(self, tokenizer: Any) -> None:
        """Refuse a model that this template was not made for.

        Raises:
            UserError: names what is missing and a template that needs nothing.
        """
        model = _model(tokenizer)
        if self.chat and not getattr(tokenizer, "chat_template", None):
            raise UserError(
                f"template '{self.name}' needs a chat template, which {model} does not have; "
                "use template=plain (base models), or a model with a chat template"
            )
        if self.chat:
            self._check_repeats(tokenizer)
        for marker in self.tokens:
            if len(tokenizer(marker, add_special_tokens=False)["input_ids"]) != 1:
                raise UserError(
                    f"template '{self.name}' is written for models with the token {marker}, which {model} "
                    "does not have; use template=plain"
                )

    def _check_repeats(self, tokenizer: Any) -> None:
        """Refuse a chat template whose text is not a function of the turns."""
        rendered = {self.render(_QUESTION, tokenizer) for _ in range(_RENDERINGS)}
        if len(rendered) > 1:
            raise UserError(
                f"template '{self.name}': the chat template of {_model(tokenizer)} renders the same turns "
                "differently each time, so no prompt would repeat; use template=plain"
            )


def render_chat(tokenizer: Any, turns: Sequence[Mapping[str, str]], *, answer: bool = True) -> str:
    """``turns`` by the tokenizer's own chat template, on the day :data:`TODAY`.

    Args:
        answer: the text ends where the model is to answer.

    Raises:
        UserError: the template refuses them; the message names the model and the reason.
    """
    try:
        template = tokenizer.get_chat_template()
        if "strftime_now" in template:
            template = _frozen_clock() + template
        rendered: str = tokenizer.apply_chat_template(
            list(turns), tokenize=False, add_generation_prompt=answer, chat_template=template
        )
    except Exception as error:  # a template is a program: it raises what it wants
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"the chat template of {_model(tokenizer)} refuses it: {reason}") from error
    return rendered


@cache
def _frozen_clock() -> str:
    """A line of a chat template that puts :data:`TODAY` in the place of the clock.

    It is written in the template's own language: transformers lets no function of ours into a template.
    """
    fields = "".join(f"|replace('%{c}', '{TODAY.strftime('%' + c)}')" for c in _FIELDS)
    return f"{{% macro strftime_now(format) %}}{{{{ format{fields} }}}}{{% endmacro %}}\n"


def _model(tokenizer: Any) -> str:
    return getattr(tokenizer, "name_or_path", "") or "this model"


_ALL = (
    Template(
        "plain",
        "Problem: {question}\n\nSolve the problem step by step and write the final answer inside \\boxed{}."
        "\n\nSolution:",
        "no chat template needed; the answer is asked for in a box",
        wording="ours",
    ),
    Template("bare", "{question}", "the question alone"),
    Template(
        "qwen-math",
        f"<|im_start|>system\n{_BOXED}<|im_end|>\n<|im_start|>user\n{{question}}<|im_end|>\n"
        "<|im_start|>assistant\n",
        "Qwen2.5-Math's prompt with a boxed answer, as literal text: base models of that family know it",
        tokens=("<|im_start|>", "<|im_end|>"),
    ),
    Template(
        "chat-boxed",
        f"{{question}}\n{_BOXED}",
        "the model's chat template; the instruction follows the question in the user turn",
        chat=True,
    ),
    Template(
        "system-boxed",
        "{question}",
        "the model's chat template; the instruction is the system turn",
        chat=True,
        system=_BOXED,
    ),
    Template(
        "r1",
        "This is a dialogue in which a User asks and an Assistant replies. Before replying, the Assistant "
        "works out the solution in its mind. What it thinks stands between <think> and </think>, what it "
        "replies between <answer> and </answer>: <think> the thoughts </think> <answer> the reply </answer>. "
        "The reply to a mathematical question has its result in \\boxed{}."
        "\nUser: {question}\nAssistant: <think>",
        "after R1-Zero: thoughts and answer in tags, the first tag already open",
        stop_texts=("</answer>",),
        wording="ours",
    ),
    Template(
        "dapo",
        "Solve the following math problem step by step. The last line of your response should be of the form "
        "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n{question}\n\n"
        'Remember to put your answer on its own line after "Answer:".',
        'DAPO\'s user turn: the answer stands on a last line after "Answer:"',
        chat=True,
        grader="math-dapo",
    ),
    Template(
        "dapo-boxed",
        "Solve this mathematics problem step by step and end with a line that holds the answer in \\boxed{}."
        "\n\n{question}",
        "after CURE's variant of DAPO's user turn, with a boxed answer",
        chat=True,
        wording="ours",
    ),
    Template(
        "think-boxed",
        "{question}",
        "after MENTOR's system turn: thoughts in <think> </think>, then a boxed answer",
        chat=True,
        system="First think the problem through between <think> and </think>; then give the final answer in "
        "\\boxed{}.",
        wording="ours",
    ),
)
TEMPLATES: Mapping[str, Template] = {template.name: template for template in _ALL}


def find(name: str) -> Template:
    """The template called ``name``.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    if name not in TEMPLATES:
        raise unknown("template", name, TEMPLATES)
    return TEMPLATES[name]


def digest(template: Template) -> str:
    """12 hex digits of all that a template says: it stands in records and in data fingerprints."""
    return hashlib.sha256(json.dumps(asdict(template), sort_keys=True).encode()).hexdigest()[:12]


class Templated:
    """A benchmark whose prompts are made by ``template`` from its questions (``meta["question"]``)."""

    def __init__(self, benchmark: Benchmark, template: Template, tokenizer: Any) -> None:
        template.check(tokenizer)
        self._benchmark, self._template, self._tokenizer = benchmark, template, tokenizer
        self._rendered_of: dict[str, list[Problem]] = {}
        self.name, self.version = benchmark.name, benchmark.version

    def splits(self) -> Sequence[str]:
        return self._benchmark.splits()

    def problems(self, split: str) -> Sequence[Problem]:
        if split not in self._rendered_of:
            self._rendered_of[split] = [self._rendered(p) for p in self._benchmark.problems(split)]
        return self._rendered_of[split]

    def _rendered(self, problem: Problem) -> Problem:
        if "question" not in problem.meta:
            raise UserError(f"benchmark '{self.name}' has a prompt of its own; leave data.template empty")
        prompt = self._template.render(str(problem.meta["question"]), self._tokenizer)
        return replace(problem, prompt=prompt, meta={**problem.meta, "grader": self._template.grader})

    def verify(self, problem: Problem, text: str) -> Verdict:
        return self._benchmark.verify(problem, text)

    def demonstration(self, problem: Problem) -> str | None:
        return demonstration_of(self._benchmark, problem)

    def verify_all(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Verdict]:
        return verify_all(self._benchmark, problems, texts)

    def fingerprint(self) -> str:
        text = f"{self._benchmark.fingerprint()} {digest(self._template)}"
        return hashlib.sha256(text.encode()).hexdigest()
