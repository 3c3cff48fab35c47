"""The final answer of a response without a box: what its last words state; in linear time."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Literal

FoundIn = Literal["boxed", "phrase", "latex", "number"]

_PHRASE = re.compile(
    r"(?:final answer|answers?|result|option|choice|答案)(?P<says> is| are|是|为)?"
    r"(?: therefore| thus| equal to)?"
    r"(?P<more>(?:[:：*\s]|\\text\{)*)(?:is |are )?",
    re.IGNORECASE,
)
_SEVERAL = re.compile(
    r"(?:solutions|roots|zeros|possible values|values|numbers|pairs)"
    r"(?: (?:of|to|for) [^.\n]{1,40}?)? are[:*\s]*",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"(?<![a-zA-Z0-9_.,\\^{])(?:\d+(?::\d+)+(?:\s?[ap]\.?m\b\.?)?"
    r"|[-+]?[$€£¥]?(?:\d{1,3}(?:[ ,]\d{3})+(?!\d)(?:\.\d+)?|\d+(?:[.,]\d+)?|\.\d+)"
    r"(?:[eE][-+]?\d{1,4}(?![\w]))?(?:/\d+(?!\d|\.\d))?(?: ?\\?%| ?percent\b| ?pct\b)?)",
    re.IGNORECASE,
)
#: GSM8K's own mark, before a number that ends its line.
_MARKER = re.compile(
    r"(?:^|[ \t])#{4}[ \t]*"
    r"(?P<answer>\\?\$?[ \t]*[-+]?[\d,.]*\d(?:/\d+)?[ \t]*(?:\\?%)?(?: [a-z]+){0,2})[ \t.$]*$",
    re.MULTILINE,
)
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
_TEXT_COMMAND = re.compile(
    r"\\(?:text\w*|mathrm|mbox|operatorname|mathbf|begin|end)\s*\{[^{}]*\}|\\[a-zA-Z]+"
)
_WORDS = re.compile(r"[^\W\d_]{2,}")
_MATH_WORDS = frozenset(
    "sin cos tan cot sec csc log ln exp sqrt pi or and to am pm mod arcsin arccos arctan".split()
)
_ONE_WORD = re.compile(r"[^\W\d_]+\.?")
_COUNTED = re.compile(r"[-+]?[\d.,/ ]*\d\s*[^\W\d_]+(?: [^\W\d_]+)?\.?")
#: A number in front of a sentence's rest: "14 kites", "6, because 12/2 = 6", "4 (four)".
_BEGINS = re.compile(
    r"(?:[a-z]+ (?=\(\d+\)))?(?P<number>\(\d+\)|(?:\([A-J]\)\s*)?[-+]?\\?[$€£¥]?\s?"
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[ -]\d+/\d+|/\d+)?(?:\s?\\?%)?)"
    r"(?![\w.:^*/=+])(?P<rest>.*)",
    re.DOTALL,
)
_NOT_MORE = re.compile(
    r"[,;:]?\s*(?:because|since|as|so|which|for|when|if|that|in|of|per|at|with)\b"
    r"|\([^()]*[a-z][^()]*\)\s*$|\(?[a-zA-Z]{2,}(?:[ /-][a-zA-Z]+)*[\s.!)]*(?:[,;(].*)?$",
    re.DOTALL,
)
_NOUN = re.compile(
    r"(?!because|since|as |so |which|for |when|if |that|or |and )[a-zA-Z]+"
    r"(?:[ /](?!and |or |because|since )[a-zA-Z]+)*"
)
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


def find(text: str, tail: str) -> Answer | None:
    """The answer behind ``####``, the response itself, what "answer is" says, or the last piece."""
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
    last = _last_phrase(tail)
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


def _last_phrase(tail: str) -> re.Match[str] | None:
    """The last that says "is" or has a colon; else the last "roots are"; else the last "answer"."""
    said: re.Match[str] | None = None
    bare: re.Match[str] | None = None
    for match in _PHRASE.finditer(tail):
        if match["says"] or re.search("[:：]", match["more"]):
            said = match
        elif match.group()[:6].lower() not in ("option", "choice"):
            bare = match
    return said or _last(_SEVERAL, tail) or bare


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
