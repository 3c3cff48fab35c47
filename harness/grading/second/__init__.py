"""The second grader: a LaTeX reader of our own, and equality by exact arithmetic and at random points.

It shares no parser and no comparison with math-verify, so that where both agree the verdict does not hang on
one library's reading, and where they differ somebody should look.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

from harness.grading.second.compare import canonical, same
from harness.grading.second.reader import read
from harness.grading.second.tokens import Unreadable

Status = Literal["right", "wrong", "unparsed"]


def load() -> None:
    """Import sympy and grade once, so that nothing is imported after the fork."""
    judge(gold=r"\sqrt{2}+\sin^2 x", pred=r"\frac{2}{\sqrt{2}}+1-\cos^2 x")


def judge(*, gold: str, pred: str) -> dict[str, Any]:
    """Verdict on two cleaned answers, and the canonical form of ``pred`` where it can be read."""
    try:
        value = _read(pred)
    except Unreadable:
        return {"status": "unparsed"}
    try:
        form: str | None = canonical(value)
    except Unreadable:
        form = None
    try:
        status: Status = "right" if same(_read(gold), value) else "wrong"
    except Unreadable:
        status = "unparsed"
    return {"status": status, "canonical": form}


@lru_cache(maxsize=200)  # the elements of a list are compared with one another
def _read(text: str) -> Any:
    return read(text)


def canonical_form(pred: str) -> str | None:
    """The canonical form of a cleaned answer; None where it cannot be read."""
    try:
        return canonical(_read(pred))
    except Unreadable:
        return None
