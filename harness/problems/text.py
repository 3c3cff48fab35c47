"""When are two problems or two answers the same text? Normal forms, and digests made of them."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

_SPACING = re.compile(r"\\(left|right|displaystyle)(?![a-z])|\\[,;:! ]|\\[()\[\]]")
_BLANK = re.compile(r"[\s$~{}]+")


def normal_text(text: str) -> str:
    """``text`` without what two copies of one problem may differ in.

    Case, blanks, dollar signs, braces, LaTeX spacing and size commands, and a last full stop go; every
    operator, digit and letter stays.
    """
    folded = _SPACING.sub("", unicodedata.normalize("NFKC", text).lower())
    folded = folded.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    return _BLANK.sub("", folded).rstrip(".?!:")


@lru_cache(maxsize=1 << 16)
def text_hash(text: str) -> str:
    """12 hex digits of the normal form: names a problem whatever its id is in a copy.

    Remembered: a set is asked for by hash again and again, and the normal form is what takes the time.
    """
    return hashlib.sha256(normal_text(text).encode()).hexdigest()[:12]


def content_digest(rows: Iterable[tuple[str, str]]) -> str:
    """16 hex digits over (problem, answer) pairs; ids and order do not matter, so copies can agree."""
    lines = sorted(f"{normal_text(problem)}\0{normal_answer(answer)}" for problem, answer in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def normal_answer(answer: str) -> str:
    """An answer without dollar signs and blanks; case stays."""
    return re.sub(r"[\s$]+", "", unicodedata.normalize("NFKC", answer))
