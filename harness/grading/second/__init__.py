"""The second grader: a LaTeX reader of our own, and equality by exact arithmetic and at random points.

It shares no parser and no comparison with math-verify, so that where both agree the verdict does not hang on
one library's reading, and where they differ somebody should look.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from harness.grading.errors import where
from harness.grading.second.compare import canonical, same
from harness.grading.second.reader import read
from harness.grading.second.tokens import Unreadable

#: A text that is no mathematics to this reader, or nested too deep for Python.
_CANNOT = (Unreadable, RecursionError)


def load() -> None:
    """Import sympy and grade once, so that nothing is imported after the fork."""
    judge(gold=r"\sqrt{2}+\sin^2 x", pred=r"\frac{2}{\sqrt{2}}+1-\cos^2 x")


def judge(*, gold: str, pred: str) -> dict[str, Any]:
    """Verdict on two cleaned answers, and the canonical form of ``pred`` where it can be read.

    A text on which the reader or the comparison fails is unparsed, and ``error`` says where it failed.
    """
    said: dict[str, Any] = {"status": "unparsed"}
    try:
        value = _read(pred)
        said["canonical"] = _canonical(value)
        said["status"] = "right" if same(_read(gold), value) else "wrong"
    except _CANNOT:
        return said
    except MemoryError:
        raise
    except Exception as error:
        said["error"] = where(error)
    return said


@lru_cache(maxsize=200)  # the elements of a list are compared with one another
def _read(text: str) -> Any:
    return read(text)


def _canonical(value: Any) -> str | None:
    try:
        return canonical(value)
    except _CANNOT:
        return None


def canonical_form(pred: str) -> str | None:
    """The canonical form of a cleaned answer; None where it cannot be read."""
    try:
        return canonical(_read(pred))
    except _CANNOT:
        return None
