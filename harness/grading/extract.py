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
    r"(?:(?:final answer|answers?|result)(?: is| are)?(?: therefore| thus| equal to)?(?:[:*\s]|\\text\{)*"
    r"(?:is |are )?"
    r"|(?:solutions|roots|zeros|possible values|values|numbers|pairs)(?: (?:of|to|for) [^.\n]{1,40}?)? are(?:[:*\s])*"
    r"|(?:correct )?(?:option|choice) is(?:[:*\s])*"
    r"|答案(?:是|为|：|:|\s)*)",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"(?<![a-zA-Z0-9_.,\\^{])(?:\d+(?::\d+)+(?:\s?[ap]\.?m\b\.?)?|[-+]?[$€£¥]?(?:\d{1,3}(?:[ ,]\d{3})+(?!\d)(?:\.\d+)?|\d+(?:[.,]\d+)?|\.\d+)"
    r"(?:[eE][-+]?\d{1,4}(?![\w]))?(?:/\d+(?!\d|\.\d))?(?: ?\\?%| ?percent\b| ?pct\b)?)",
    re.IGNORECASE,
)
#: GSM8K's own mark, before a number that ends its line.
_MARKER = re.compile(r"(?:^|[ \t])#{4}[ \t]*(?P<answer>\\?\$?[ \t]*[-+]?[\d,.]*\d(?:/\d+)?[ \t]*(?:\\?%)?(?: [a-z]+){0,2})[ \t.$]*$", re.MULTILINE)
_LAST_MARKER = re.compile(r"(?:^|\n)#{4}[ \t]*(?P<answer>[^\n]{1,60}?)\s*$")
_END_OF_CHAT = re.compile(
    r"<[|｜][a-zA-Z_▁]+[|｜]>|</answer>|</s>|<end_of_turn>|<start_of_turn>|\[/?INST\]|<\|/?\w+\|>"
)
_CHAT_BEGIN = re.compile(
    r"\s*(?:(?:<[|｜][a-zA-Z_▁]+[|｜]>|<start_of_turn>|<s>)\s*(?:assistant\b|model\b|system\b)?\s*)+"
)
_TAGS = re.compile(r"</?(?:think|thinking|answer|solution)>")
_SENTENCE_END = re.compile(r"(?<!\b[A-J])\.(?=\s|$)|(?<=\b[A-J])\.(?=\s+[^\d$\\\s]|\s*$)|\n|。")
_PROSE = re.compile(r"[^\W\d_]{2,} [^\W\d_]{2,}")
_MATHS_MARK = re.compile(r"\\[(\[]")
_TEXT_COMMAND = re.compile(r"\\(?:text\w*|mathrm|mbox|operatorname|mathbf|begin|end)\s*\{[^{}]*\}|\\[a-zA-Z]+")
_WORDS = re.compile(r"[^\W\d_]{2,}")
_MATH_WORDS = frozenset("sin cos tan cot sec csc log ln exp sqrt pi or and to am pm mod arcsin arccos arctan".split())
_ONE_WORD = re.compile(r"[^\W\d_]+\.?")
_COUNTED = re.compile(r"[-+]?[\d.,/ ]*\d\s*[^\W\d_]+(?: [^\W\d_]+)?\.?")
#: A number in front of a sentence's rest: "14 kites", "6, because 12/2 = 6", "4 (four)".
_BEGINS = re.compile(
    r"(?:[a-z]+ (?=\(\d+\)))?(?P<number>\(\d+\)|(?:\([A-J]\)\s*)?[-+]?\\?[$€£¥]?\s?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[ -]\d+/\d+|/\d+)?(?:\s?\\?%)?)"
    r"(?![\w.:^*/=+])(?P<rest>.*)",
    re.DOTALL,
)
_NOT_MORE = re.compile(
    r"[,;:]?\s*(?:because|since|as|so|which|for|when|if|that|in|of|per|at|with)\b|\([^()]*[a-z][^()]*\)\s*$|\(?[a-zA-Z]{2,}(?:[ /-][a-zA-Z]+)*[\s.!)]*(?:[,;(].*)?$",
    re.DOTALL,
)
_NOUN = re.compile(r"(?!because|since|as |so |which|for |when|if |that|or |and )[a-zA-Z]+(?:[ /](?!and |or |because|since )[a-zA-Z]+)*")
_SOLVED = re.compile(r"\s*(\\?[a-zA-Z](?:_\w)?)\s*=")
_BETWEEN = re.compile(r"\s*(?:,|,?\s*(?:and|or))\s*")
_EQUATIONS = re.compile(
    r"(?<![a-zA-Z])(?P<name>[a-zA-Z]) ?= ?-?[\d./]*\d(?:(?:,|,? (?:or|and)) ?(?:(?P=name) ?= ?)?-?[\d./]*\d)+"
)
_TUPLE = re.compile(r"\([-+]?[\w./\\{}]{1,30}(?:, ?[-+]?[\w./\\{}]{1,30}){1,9}\)")
_BARE_LATEX = re.compile(r"(?<![^\s:=])[-+]?[\d.]*\\(?:[dt]?frac|sqrt|pi|binom)[^\s,;]{0,80}(?<![.,:;!?])")
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
    text = without_chat(text)
    boxed = last_box(text)
    if boxed is not None:
        return Answer(boxed.strip(), "boxed") if boxed.strip() else None
    if boxed_only or opens_box(text):
        return None
    tail = text[-TAIL_CHARACTERS:]
    return _marked(tail) or _whole(text) or _after_phrase(tail) or _last_piece(tail)


def without_chat(text: str) -> str:
    """What stands before the first mark of a chat's turns; marks in front of everything do not count."""
    begin = _CHAT_BEGIN.match(text)
    text = text[begin.end() :] if begin else text
    stop = _END_OF_CHAT.search(text)
    text = text[: stop.start()] if stop and text[: stop.start()].strip() else text
    return _TAGS.sub("\n", text)


def _marked(tail: str) -> Answer | None:
    """The answer behind the last ``####``."""
    last = _last(_MARKER, tail) or _LAST_MARKER.search(tail)
    text = last["answer"].strip().strip("*").strip() if last else ""
    return Answer(text, "phrase") if text else None


def _whole(text: str) -> Answer | None:
    """A response that is nothing but an answer: a word, a number, a formula without dollar signs."""
    text = text.strip().strip("*").strip().removeprefix("=").strip()
    if not text or len(text) > 200 or "\n" in text or "$" in text or _MATHS_MARK.search(text):
        return None
    bare = _TEXT_COMMAND.sub(" ", text)
    words = [word for word in _WORDS.findall(bare) if word.lower() not in _MATH_WORDS]
    if not words or _ONE_WORD.fullmatch(text) or _COUNTED.fullmatch(text):
        return Answer(text, "latex") if re.search(r"[\w\\]", text) else None
    return None


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
    if not inside and (stated := _stated(sentence)):
        return Answer(stated, "phrase")
    if sentence and not inside and len(sentence) <= 60 and not _PROSE.search(sentence):
        return Answer(sentence, "phrase")
    return _last_piece(sentence)


def _stated(sentence: str) -> str | None:
    """The number, or letter of choice, that a sentence begins with, and the noun behind it."""
    match = _BEGINS.match(sentence.replace("**", ""))
    if match is None:
        return None
    rest = match["rest"].strip()
    if rest and not _NOT_MORE.match(rest):
        return None
    noun = _NOUN.match(rest)
    number = match["number"].strip()
    number = number[1:-1] if re.fullmatch(r"\(\d+\)", number) else number
    return number + (f" {noun.group()}" if noun else "")


def _last_piece(tail: str) -> Answer | None:
    """The last mathematics or the last number, whichever ends later."""
    maths = _maths(tail)
    number = _last(_NUMBER, tail)
    if maths and (number is None or maths[-1][1] >= number.start()):
        text = _joined(tail, maths)
        after = tail[maths[-1][1] :]
        percent = re.match(r"\s*(?:\\?%|percent\b|pct\b)", after)
        return Answer(text + (r"\%" if percent else ""), "latex")
    for pattern in (_EQUATIONS, _TUPLE, _BARE_LATEX):
        bare = _last(pattern, tail)
        if bare and (number is None or bare.end() >= number.end()):
            return Answer(bare.group().strip(), "number")
    return Answer(number.group().strip(), "number") if number else None


def _joined(tail: str, maths: list[tuple[int, int, str]]) -> str:
    """The last formula, with those that "or" or "and" ties to it where all are equations for one name."""
    text = maths[-1][2]
    name = _SOLVED.match(text)
    for (_, end, before), (start, _, _) in zip(maths[-2::-1], maths[:0:-1], strict=False):
        other = _SOLVED.match(before)
        if name is None and other and re.fullmatch(r"[-+\d\s.,/\\a-z{}]+", text):  # "$x=2$ or $3$"
            name = other
        if not (name and other and name[1] == other[1] and _BETWEEN.fullmatch(tail[end:start])):
            break
        text = f"{before}, {text}"
    return text


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
