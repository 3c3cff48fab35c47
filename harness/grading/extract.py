"""Where the final answer stands in a response. Every function is linear in the length of the text."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Literal

FoundIn = Literal["boxed", "phrase", "latex", "number"]

#: Of a response without a box only the end is searched: a conclusion stands there.
TAIL_CHARACTERS = 4000
#: An answer longer than this is compared as a string only; the longest reference of MATH-500, Minerva and
#: OlympiadBench has 210 characters.
MAX_ANSWER_CHARACTERS = 1500

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])[ \t]*")
_PHRASE = re.compile(
    r"(?:final answer|answer|result)(?: is| are)?(?: therefore| thus| equal to)?(?:[:*\s]|\\text\{)*"
    r"(?:is |are )?",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"(?<![\w.,\\^_{])[-+]?[$€£¥]?(?:\d{1,3}(?:[ ,]\d{3})+(?!\d)(?:\.\d+)?|\d+(?:[.,]\d+)?|\.\d+)"
    r"(?:[eE][-+]?\d{1,4}(?![\w]))?(?:/\d+(?![\d.]))?(?: ?\\?%| ?percent\b| ?pct\b)?"
)
_END_OF_CHAT = re.compile(r"<\|(?:im_end|im_start|endoftext|eot_id|end_of_text)\|>|</answer>|</s>")
_SENTENCE_END = re.compile(r"\.(?=\s|$)|\n")
_PROSE = re.compile(r"[^\W\d_]{2,} [^\W\d_]{2,}")
_CLOSING = {"$$": "$$", "\\[": "\\]", "\\(": "\\)", "$": "$"}
_OPENING = re.compile(r"(?<!\\)(?:\$\$|\\\[|\\\(|\$)")


@dataclass(frozen=True)
class Answer:
    """The text of an answer, without its box or dollar signs, and where it stood."""

    text: str
    place: FoundIn


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
    boxed = last_box(text)
    if boxed is not None:
        return Answer(boxed.strip(), "boxed") if boxed.strip() else None
    if boxed_only or opens_box(text):
        return None
    tail = text[-TAIL_CHARACTERS:]
    stop = _END_OF_CHAT.search(tail)
    tail = tail[: stop.start()] if stop else tail
    return _after_phrase(tail) or _last_piece(tail)


def _after_phrase(tail: str) -> Answer | None:
    """What follows the last "answer is …", up to the end of its sentence."""
    last = _last(_PHRASE, tail)
    if last is None:
        return None
    rest = tail[last.end() :]
    end = _SENTENCE_END.search(rest)
    stop = end.start() if end else len(rest)
    inside = [piece for piece in _maths(rest[: stop + 1000]) if piece[0] <= stop]
    if inside and inside[0][0] <= 3:
        # "$1$, $2$ and $3$" is one answer, from the first formula to the last
        text = inside[0][2] if len(inside) == 1 else rest[inside[0][0] : inside[-1][1]].replace("$", " ")
        return Answer(text.strip(), "phrase")
    sentence = rest[: max(stop, inside[-1][1]) if inside else stop].strip().strip("*").strip()
    if sentence and not inside and len(sentence) <= 60 and not _PROSE.search(sentence):
        return Answer(sentence, "phrase")
    return _last_piece(sentence)


def _last_piece(tail: str) -> Answer | None:
    """The last mathematics or the last number, whichever ends later."""
    maths = _maths(tail)
    number = _last(_NUMBER, tail)
    if maths and (number is None or maths[-1][1] >= number.start()):
        text = maths[-1][2]
        after = tail[maths[-1][1] :]
        percent = re.match(r"\s*(?:\\?%|percent\b|pct\b)", after)
        return Answer(text + (r"\%" if percent else ""), "latex")
    return Answer(number.group().strip(), "number") if number else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    matches = deque(pattern.finditer(text), maxlen=1)
    return matches[0] if matches else None


def _maths(text: str) -> list[tuple[int, int, str]]:
    """Every dollar or bracket formula: start, end and content, in linear time."""
    found: list[tuple[int, int, str]] = []
    at = 0
    missing: set[str] = set()
    while match := _OPENING.search(text, at):
        mark = match.group()
        if mark in missing:
            at = match.end()
            continue
        close = text.find(_CLOSING[mark], match.end())
        while close > 0 and mark == "$" and text[close - 1] == "\\":
            close = text.find("$", close + 1)
        if close < 0:
            missing.add(mark)
            at = match.end()
            continue
        end = close + len(_CLOSING[mark])
        content = text[match.end() : close].strip()
        if content:
            found.append((match.start(), end, content))
        at = end
    return found
