"""Cases of the corpus: an answer in a response, its verdict, and the check that confirms the verdict."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from harness.grading.conformance import LATE_S, ConformanceCase
from tests.unit.grading.corpus.numbers import Form
from tests.unit.grading.corpus.reader import read
from tests.unit.grading.corpus.references import TYPES, references, shown
from tests.unit.grading.corpus.values import same

#: Responses around an answer that is mathematics; models box, or say it, or end with a formula.
BOXED = (
    "So the final answer is $\\boxed{<a>}$.",
    "\\boxed{<a>}",
    "Simplifying both sides leaves one possibility.\n\n\\[\n\\boxed{<a>}\n\\]",
    "<think>\nFirst try 19, which fails; 6 + 5 = 11 is no help.\n</think>\n\nThe answer is $\\boxed{<a>}$.",
    "**Final Answer**\n\n$\\boxed{<a>}$",
    "Step 3: put it together.\nTherefore, $$\\boxed{ <a> }.$$ This completes the solution.",
)
STATED = (
    "The answer is $<a>$.",
    "We combine the two parts. The final answer is $<a>$.",
    "**Answer:** $<a>$",
    "Therefore, the answer is **$<a>$**.",
    "Both cases agree.\n\nFinal answer: \\(<a>\\)",
)
#: Only for answers without LaTeX, where the plain text is how people would write it.
PLAIN = ("The answer is <a>.", "#### <a>", "**<a>**", "Adding up, we are done.\n\nAnswer: <a>", "<a>")


@dataclass(frozen=True)
class Case:
    """``gold_meaning`` and ``meaning`` are what the second check compares."""

    tag: str
    gold: str
    answer: str
    response: str
    expected: bool
    gold_meaning: Any
    meaning: Any
    group: str

    @property
    def confirmed(self) -> bool:
        return same(self.gold_meaning, self.meaning) == self.expected

    def conformance(self) -> ConformanceCase:
        digest = hashlib.sha256(f"{self.gold}\0{self.response}".encode()).hexdigest()[:12]
        form = "boxed" if "\\boxed" in self.response else "latex" if "$" in self.response else "plain"
        tags = (self.tag, self.group, "true" if self.expected else "spoilt")
        return ConformanceCase(
            f"corpus-{digest}", "standard", self.gold, self.response, self.expected, form, tags, LATE_S
        )


def own() -> list[Case]:
    """Every reference of this corpus in ten right and five wrong answers."""
    cases = []
    for turn, (type_, text) in enumerate(references()):
        cases += of_reference(type_, text, shown(type_, text), "own", turn)
    return cases


def of_reference(
    type_: str, text: str, gold: str, group: str, turn: int, right: int = 10, wrong: int = 5
) -> list[Case]:
    """``right`` and ``wrong`` different answers to one reference.

    Args:
        text: what the reader reads as the reference; ``gold`` is how the data set writes it.
        turn: where the wheel of responses starts.
    """
    make, kind, _ = TYPES[type_]
    good, bad = make(text)
    return [
        Case(type_, gold, form.text, response, expected, read(text, kind), _meaning(form, kind), group)
        for forms, expected, most in ((good, True, right), (bad, False, wrong))
        for form, response in _responses(forms, turn, most)
    ]


def _meaning(form: Form, kind: str) -> Any:
    return read(form.reading or form.text, kind)


def _responses(forms: list[Form], turn: int, most: int) -> list[tuple[Form, str]]:
    """All forms once, then again in other responses until there are ``most``."""
    forms = list({f.text: f for f in forms}.values())
    chosen, seen = [], set()
    for n in range(8 * most):
        form, lap = forms[n % len(forms)], n // len(forms)
        response = _wheel(form.text, turn + n + lap)
        if response not in seen and len(chosen) < most:
            seen.add(response)
            chosen.append((form, response))
    return chosen


def _wheel(answer: str, turn: int) -> str:
    """A response around ``answer``: two in three boxed, the rest stated, or plain where there is no LaTeX."""
    if answer.startswith("$"):  # a dollar sign of its own, not mathematics
        return (*PLAIN, BOXED[1])[turn % 6].replace("<a>", answer)
    if turn % 3 < 2:
        return BOXED[(turn + turn // 3) % len(BOXED)].replace("<a>", answer)
    bare = re.fullmatch(r"[-+\w .,:/()%*^=]+", answer)
    turn //= 3
    wheel = PLAIN if bare and turn % 2 else STATED
    if not bare and answer.endswith("."):
        wheel = BOXED
    return wheel[turn % len(wheel)].replace("<a>", answer).replace("..", ".")
