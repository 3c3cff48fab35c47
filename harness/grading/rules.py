"""What strings and plain numbers decide, before and above any computer algebra."""

from __future__ import annotations

import re

from harness.grading import extract, normalise, numbers
from harness.problems.problem import VerdictStatus

_BASED = re.compile(r"(?P<digits>[0-9A-Za-z]+)_\{?(?P<base>\d{1,2})\}?")
_DECIMAL_COMMA = re.compile(r"[-+]?(?:0,\d+|\d+,\d{1,2}|\d+,\d{4,})%?")
_LEFT = re.compile(r"(?P<left>[^=<>]{1,60}?)\s*=\s*(?P<right>[^=<>]+)")
#: What may stand left of an equals sign and be left out: a name, ``f(x)``, ``x_1``, a derivative.
_NAME = re.compile(
    r"\\?[a-zA-Z]+'*(?:_\{?\w+\}?)?(?:\s*\([^()=]*\))?"
    r"|\\frac\{\s*d\s*\\?[a-zA-Z]+\s*\}\{\s*d\s*\\?[a-zA-Z]+\s*\}|\\d?dot\{\s*\\?[a-zA-Z]+\s*\}"
)
_RELATION = re.compile(r"[=<>]|\\(?:in|le|ge|leq|geq|approx)(?![a-zA-Z])")
_ONE_LETTER_UNIT = re.compile(r"(?<=[\d}])\s+[mgshNJWVKLA](?:\^\{?[23]\}?)?$")
_JOINING = re.compile(r"(?<![a-zA-Z])(?:and|or)(?![a-zA-Z])|,|;")


def reference(gold: str) -> str:
    """The answer in a reference as data sets write it: bare, in dollars, in boxes, or in prose."""
    boxes = extract.all_boxes(gold)
    if boxes:
        last = [boxes[-1]]
        for box in boxes[-2::-1]:
            between = gold[box.end : last[0].start]
            if len(between) > 25 or not _JOINING.search(between):
                break
            last.insert(0, box)
        return ", ".join(box.text for box in last)
    prose = len(re.findall(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}", gold)) > 12
    found = extract.extract(gold) if prose else None
    return found.text if found else gold


def cleaned(gold: str, answer: str) -> tuple[str, str]:
    """Both sides in one writing.

    A comma before three digits groups thousands, except where the other side is a list: ``120,102`` is a
    number beside ``120102`` and two numbers beside ``102, 120``. Where both sides name the same left-hand
    side (``f(x) =``) it goes.
    """
    left, right = normalise.clean(gold), normalise.clean(answer)
    if ("," in left) != ("," in right):
        left, right = normalise.clean(gold, grouped=False), normalise.clean(answer, grouped=False)
        if ("," in left) != ("," in right):
            left, right = normalise.clean(gold), normalise.clean(answer)
    if numbers.number(left) is not None:  # "6 m" for 6; but "6m" for 6m is a product
        right = _ONE_LETTER_UNIT.sub("", right)
    return _without_names(left, right)


def _without_names(gold: str, answer: str) -> tuple[str, str]:
    """Drop left-hand sides: where they are the same, and a bare name where the other side has none."""
    a, b = _LEFT.fullmatch(gold), _LEFT.fullmatch(answer)
    if a and b:
        same = normalise.key(a["left"]) == normalise.key(b["left"])
        return (a["right"], b["right"]) if same else (gold, answer)
    if a and not _RELATION.search(answer) and "," not in gold:
        return (a["right"], answer) if _NAME.fullmatch(a["left"]) else (gold, answer)
    if b and not _RELATION.search(gold) and "," not in answer:
        return (gold, b["right"]) if _NAME.fullmatch(b["left"]) else (gold, answer)
    return gold, answer


def decided(gold: str, answer: str) -> VerdictStatus | None:
    """Verdict on two cleaned answers where equal strings or plain numbers settle it; None elsewhere."""
    if not answer:
        return "unparsed"
    if normalise.key(gold) == normalise.key(answer):
        return "right"
    a, b = numbers.number(gold), numbers.number(answer)
    if a is not None and b is not None:
        return "right" if numbers.same(a, b) else "wrong"
    if a is not None and _DECIMAL_COMMA.fullmatch(answer):
        b = numbers.number(answer.replace(",", "."))
        return "right" if b is not None and numbers.same(a, b) else None
    if (a or _BASED.fullmatch(gold)) and (b or _BASED.fullmatch(answer)):
        # The base is part of the answer: 52 is not 52_8, and 42 written in base 10 does not answer it either.
        return "right" if _based(gold) == _based(answer) is not None else "wrong"
    equation = _LEFT.fullmatch(gold)
    if equation and not _RELATION.search(answer) and _is_sum(equation["left"]):
        return "wrong"  # math-verify takes the 1 of x+y=1 for its value
    return None


def canonical(answer: str) -> str:
    """A string that is the same for answers that are obviously the same."""
    value = numbers.number(answer)
    return numbers.canonical(value) if value is not None else normalise.key(answer)[:500]


def _is_sum(text: str) -> bool:
    """Whether a plus or minus stands outside every bracket, and not in front."""
    for _ in range(6):
        text = re.sub(r"\{[^{}]*\}|\([^()]*\)", "", text)
    return re.search(r"\S\s*[-+]", text) is not None


def _based(text: str) -> tuple[str, int] | None:
    match = _BASED.fullmatch(text)
    return (match["digits"].lstrip("0").upper(), int(match["base"])) if match else None
