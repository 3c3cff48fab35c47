"""Where the final answer stands in a response. Every function is linear in the length of the text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.grading import stated
from harness.grading.stated import Answer

#: Of a response without a box only the end is searched: a conclusion stands there.
TAIL_CHARACTERS = 4000
#: An answer longer than this is compared as a string only; the longest reference of MATH-500, Minerva and
#: OlympiadBench has 210 characters.
MAX_ANSWER_CHARACTERS = 1500

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])[ \t]*")


def last_box(text: str) -> str | None:
    r"""Content of the last complete ``\boxed{…}`` or ``\fbox{…}``; None when there is none.

    Braces are matched; escaped ones (``\{``) do not count. A box that is never closed does not count, and
    neither does a box inside a box: the outer one is the answer. ``\boxed 7`` takes one character, as in TeX.
    """
    boxes = all_boxes(text)
    return boxes[-1].text if boxes else None


@dataclass(frozen=True)
class Box:
    start: int
    end: int
    text: str


def all_boxes(text: str) -> list[Box]:
    """Every complete outermost box in order. One pass over the text, whatever it holds."""
    marks = {m.end(): m.start() for m in _BOX.finditer(text)}
    if not marks:
        return []
    boxes: list[Box] = []
    open_braces: list[int] = []  # positions of unmatched opening braces
    for match in re.finditer(r"\\[\\{}]|[{}]", text):
        token, at = match.group(), match.start()
        if token == "{":
            open_braces.append(at)
        elif token == "}" and open_braces:
            begin = open_braces.pop()
            if begin in marks:
                box = Box(marks[begin], at + 1, text[begin + 1 : at] if at - begin < 10**6 else "")
                while boxes and boxes[-1].start >= box.start:
                    boxes.pop()
                boxes.append(box)
    bare = [Box(start, end + 1, text[end]) for end, start in marks.items() if text[end : end + 1].isalnum()]
    return sorted(boxes + bare, key=lambda box: box.start) if bare else boxes


def opens_box(text: str) -> bool:
    """Whether there is any box, complete or not."""
    return _BOX.search(text) is not None


def extract(text: str, *, boxed_only: bool = False) -> Answer | None:
    r"""The final answer of a response, or None when it gives none.

    The last complete ``\boxed{}`` counts. Where there is no box at all, and unless ``boxed_only``: the words
    after the last "answer is" or "Answer:", else the last mathematics or number near the end. A response
    whose only box is never closed has no answer: it was cut off.
    """
    text = stated.without_chat(text)
    boxed = last_box(text)
    if boxed is not None:
        return Answer(boxed.strip(), "boxed") if boxed.strip() else None
    if boxed_only or opens_box(text):
        return None
    tail = text[-TAIL_CHARACTERS:]
    return stated.find(text, tail)
