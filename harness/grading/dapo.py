"""The grader of DAPO and of verl recipes after it: the last "Answer:" line, compared as a string.

Rule: of the last 300 characters the last match of ``(?i)Answer\\s*:\\s*([^\\n]+)``; both sides normalised as
for Minerva (https://arxiv.org/abs/2206.14858, appendix D.1); equal strings are right. Source of the rule and
of the lists below: volcengine/verl, verl/utils/reward_score/math_dapo.py at 012542c (Apache-2.0), without
its box mode. Later versions of verl (0.9.1 is one) look for the last box of the last 100 characters where
there is no such line; the rule that DAPO was published with does not, and neither does this grader.
"""

from __future__ import annotations

import re

from harness.problems.problem import VerdictStatus

_LINE = re.compile(r"(?i)answer\s*:\s*([^\n]+)")
_TAIL = 300
_WRITTEN_OTHERWISE = (
    ("an ", ""), ("a ", ""), (".$", "$"), ("\\$", ""), ("\\ ", ""), (" ", ""), ("mbox", "text"),
    (",\\text{and}", ","), ("\\text{and}", ","), ("\\text{m}", "\\text{}"),
)  # fmt: skip
_WORDS = """square ways integers dollars mph inches hours km units \\ldots sue points feet minutes digits
cents degrees cm gm pounds meters meals edges students childrentickets multiples"""
_DROPPED = (
    *_WORDS.split(), "\\text{s}", "\\text{.}", "\\text{\ns}", "\\text{}^2", "\\text{}^3", "\\text{\n}",
    "\\text{}", "\\mathrm{th}", "^\\circ", "^{\\circ}", "\\;", ",\\!", "{,}", '"', "\\dots",
)  # fmt: skip
_FIRST_FORMULA = re.compile(r".*?\$(.*?)\$.*")
_WRAPPERS = tuple(re.compile(rf"\\{name}\{{(.*?)\}}") for name in ("text", "textbf", "overline"))
_BOX = re.compile(r"\\boxed\{(.*)\}")


def find(text: str) -> str | None:
    """The text after the last "Answer:" of the last 300 characters; None when there is none."""
    lines = _LINE.findall(text[-_TAIL:])
    return str(lines[-1]) if lines else None


def verdict(gold: str, pred: str) -> VerdictStatus:
    return "right" if normalised(gold) == normalised(pred) else "wrong"


def normalised(answer: str) -> str:
    """Minerva's normal form of an answer."""
    answer = answer.rsplit("=", 1)[-1]
    for before, after in _WRITTEN_OTHERWISE:
        answer = answer.replace(before, after)
    for word in _DROPPED:
        answer = answer.replace(word, "")
    answer = _FIRST_FORMULA.sub(r"$\1$", answer)
    for wrapper in (*_WRAPPERS, _BOX):
        answer = wrapper.sub(r"\1", answer)
    answer = re.sub(r"frac([^{])(.)", r"frac{\1}{\2}", answer)
    answer = re.sub(r"sqrt([^{])", r"sqrt{\1}", answer).replace("$", "")
    digits = answer.replace(",", "")
    return digits if digits.isdigit() else answer.strip()
