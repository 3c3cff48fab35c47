"""The grader of DAPO and of verl recipes after it: the last "Answer:" line, compared as a string.

Rule: of the last 300 characters the last match of ``(?i)Answer\\s*:\\s*([^\\n]+)``; both sides normalised as
for Minerva (https://arxiv.org/abs/2206.14858, appendix D); equal strings are right. Source of the rule:
BytedTsinghua DAPO and volcengine/verl, described in words; the normalisation here is written anew.
"""

from __future__ import annotations

import re

from harness.problems import VerdictStatus

_LINE = re.compile(r"(?i)answer\s*:\s*([^\n]+)")
_TAIL = 300


def find(text: str) -> str | None:
    """The text after the last "Answer:"; None when there is none."""
    lines = _LINE.findall(text[-_TAIL:])
    return lines[-1] if lines else None


def verdict(gold: str, pred: str) -> VerdictStatus:
    return "right" if normalised(gold) == normalised(pred) else "wrong"


def normalised(text: str) -> str:
    return text.split("=")[-1].strip()
