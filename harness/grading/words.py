"""Words in answers: those that say nothing, those that change a value, and those that are a value."""

from __future__ import annotations

import re
from fractions import Fraction


def _phrases(listed: str) -> frozenset[str]:
    return frozenset(" ".join(phrase.split()) for phrase in listed.split("|"))


_WRAP = r"\\(?:text|mbox|textrm|textnormal|textup|textbf|textit|mathrm|hbox|mathbf)\s*\{"
_LEADING = re.compile(
    rf"(?:{_WRAP})?\s*(?:(?:so|thus|hence|therefore)[, ]+)?(?:(?:the|our|my)\s+)?"
    r"(?:(?:final|correct|exact|total)\s+)*"
    r"(?:answer|result|total|solution|value)\s*(?:is|=|:)\s*:?\s*(?P<close>\}?)\s*(?=.)",
    re.IGNORECASE,
)
_SAYS = re.compile(
    rf"{_WRAP}(?![^{{}}]*\b(?:not|no|less|more|least|most|greater|fewer|over|under|between|if|when)\b)[^{{}}\d]*"
    r"(?:\b(?:is|are|equals|get|gives)|[:=])\s*\}\s*(?=.)",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    rf"(?:{_WRAP})?\s*(?:approximately|approx\.?|about|roughly|around|nearly|circa|ca\.)(?![a-zA-Z])\s*"
    r"(?P<close>\}?)\s*(?=\S)",
    re.IGNORECASE,
)
_APPROX = re.compile(r"\\(?:approx|simeq|sim)(?![a-zA-Z])\s*")
_QUALIFIER = re.compile(
    rf"\s*(?:,|\\[,;: ]|\\q?quad|~)*\s*(?:{_WRAP}\s*\(?|\(\s*{_WRAP}\s*)?,?\s*"
    r"(?:\\forall(?![a-zA-Z])|for\s+(?:all|every|each|any|some)\b|for\b|"
    r"where\b|when\b|with\b|whenever\b|provided\b)",
)
_CONDITION = re.compile(
    r"\s*(?:(?:,|\\q?quad(?![a-zA-Z]))(?:\s|\\[,;: ]|\\q?quad(?![a-zA-Z])|~)*\(?|\s\()\s*"
    r"(?P<name>[a-zA-Z])\s*"
    r"(?:>|<|\\(?:ge|geq|le|leq|gt|lt|ne|neq|in)(?![a-zA-Z]))[^,]*$"
)
_SCALES = {
    "dozen": 12, "dozens": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9,
    "trillion": 10**12,
}  # fmt: skip
_SCALE = re.compile(
    rf"(?P<number>[-+]?\s*(?:\\?\$)?\s*[\d,.\\!{{}}]*\d)\}}?(?:\s|~|\\[,;: ])*(?P<wrap>{_WRAP})?\s*"
    rf"(?P<scale>{'|'.join(_SCALES)})\b\s*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_SIGN = re.compile(
    rf"(?:{_WRAP})?\s*(?P<sign>negative|minus|positive|plus)\s*(?P<close>\}}?)\s*(?=[\d\\.])", re.IGNORECASE
)
_NUMBERS = dict(
    zip(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen twenty".split(),
        range(21),
        strict=False,
    )
)
_EMPTY = _phrases(
    """empty set|the empty set|no solution|no solutions|no real solution|no real solutions|
    there is no solution|there are no solutions|
    there are no real solutions|there is no real solution|has no solution|
    has no solutions|no such solution|no solution exists|no solutions exist|none"""
)
_ALL = _phrases(
    """all real numbers|all reals|all real|the set of all real numbers|the set of real numbers|real numbers|
    every real number|any real number|the real numbers|all real values|all real x|
    all real numbers x|any real numbers"""
)
_EXCEPT = re.compile(
    r"(?:all|any) (?:real numbers?|reals|real [a-z])(?: [a-z])? (?:except|besides|other than|but|excluding)"
    r"(?: for)? ([-\d\\{}a-z]+)"
)
_INFINITE = {
    "infinity": r"\infty", "positive infinity": r"\infty", "plus infinity": r"\infty",
    "negative infinity": r"-\infty", "minus infinity": r"-\infty",
}  # fmt: skip
EMPTY, ALL = r"\emptyset", r"(-\infty,\infty)"
_ARTICLE = re.compile(r"^(?:an?|the)\s+(?=[a-z]{2})", re.IGNORECASE)
_BASES = dict(
    zip(
        "two three four five six seven eight nine ten eleven twelve sixteen".split(),
        (*range(2, 13), 16),
        strict=True,
    )
)
_BASE_WORD = re.compile(
    rf"_\s*\{{\s*(?:{_WRAP})?\s*\(?\s*(?:base[\s~}}]*)?({'|'.join(_BASES)}|\d+)\s*\)?\s*\}}?\s*\}}",
    re.IGNORECASE,
)
_BASE_BRACKETS = re.compile(
    r"(?:\(([0-9A-Za-z]+)\)|(?:\\(?:overline|text|mathrm))?\s*\{([0-9A-Za-z]+)\})\s*(?=_\s*\{?\s*\d{1,2}\}?$)"
)


def plain_answer(text: str) -> str:
    r"""Without "the answer is", "about", ``\approx`` in front and "for all real x" behind."""
    for pattern in (_LEADING, _ABOUT):
        if (match := pattern.match(text)) and match.end() < len(text):
            opened = "{" in match.group()
            rest = text[match.end() :]
            if opened and not match["close"]:  # the wrapper goes on: \text{about 7}
                rest = rest.replace("}", "", 1)
            text = rest.strip()
    if match := _SAYS.match(text):
        text = text[match.end() :]
    if match := _APPROX.match(text):
        text = text[match.end() :]
    return unqualified(text)


def unqualified(text: str) -> str:
    """What stands before "for all n", "where x > 0"; a whole answer in words stays."""
    if (match := _CONDITION.search(text)) and _restricts(text[: match.start()], match["name"]):
        return text[: match.start()].rstrip(" ,~")
    match = _QUALIFIER.search(text)
    if (
        match is None
        or not text[: match.start()].strip()
        or not re.search(r"[\d\\=^+*/-]", text[: match.start()])
    ):
        return text
    before = text[: match.start()].rstrip(" ,~")
    if match.group().lstrip(" ,~").startswith("\\") or "(" in match.group():
        return before
    bare = re.search(r"\d|\\", before) and not re.search(r"(?<![\\a-zA-Z])[a-zA-Z]{3,}", before)
    return before if bare and before.count("{") == before.count("}") else text


def _restricts(formula: str, name: str) -> bool:
    """Whether a condition on ``name`` can be one on the letter of this formula."""
    formula = formula.strip(" ,~")
    letters = re.findall(r"(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z])|(?<=\d)[a-zA-Z]", formula)
    order = re.search(r"[<>]|\\(?:le|ge|leq|geq|in|lt|gt|neq?)(?![a-zA-Z])", formula)
    closed = all(formula.count(a) == formula.count(b) for a, b in ("()", "[]", "{}"))
    return name in letters and len(formula) > 2 and not order and closed and "," not in formula


def scaled(text: str) -> str:
    r"""``2.5\text{ million}`` as ``2500000``, ``3 dozen`` as ``36``."""
    if (sign := _SIGN.match(text)) and bool(sign["close"]) == ("{" in sign.group()):
        return ("-" if sign["sign"][0] in "nNmM" else "") + scaled(text[sign.end() :])
    inner = re.fullmatch(rf"{_WRAP}\s*(\d[^{{}}]*)\}}", text)
    match = _SCALE.fullmatch(inner[1] if inner else text)
    if match is None:
        return text
    digits = re.sub(r"[^\d.+-]", "", match["number"])
    try:
        value = Fraction(digits) * _SCALES[match["scale"].lower()]
    except ValueError:
        return text
    rest = match["rest"].strip()
    rest = f" \\text{{ {rest}" if match["wrap"] and rest != "}" else "" if match["wrap"] else f" {rest}"
    money = "\\$" if "$" in match["number"] else ""
    return f"{money}{value}{rest}".strip() if value.denominator == 1 else text


def value(words: str) -> str | None:
    """The mathematics that words stand for: the empty set, all real numbers, infinity."""
    words = " ".join(words.split()).strip(" .!").lower()
    if match := _EXCEPT.fullmatch(words):
        return rf"\mathbb{{R}}\setminus\{{{match[1]}\}}"
    if words in _EMPTY:
        return EMPTY
    if words in _ALL:
        return ALL
    return _INFINITE.get(words) or (str(_NUMBERS[words]) if words in _NUMBERS else None)


def plain_word(words: str) -> str:
    """``The ellipse.`` as ``ellipse``."""
    return _ARTICLE.sub("", words.strip().rstrip(".!").strip())


def number_base(text: str) -> str:
    r"""``(413)_6``, ``413_{\text{six}}`` as ``413_{6}``."""
    if "_" not in text:
        return text
    text = _BASE_WORD.sub(lambda m: f"_{{{_BASES.get(m[1].lower(), m[1])}}}", text)
    return _BASE_BRACKETS.sub(lambda m: m[1] or m[2], text) if re.match(r"[({=\w\s\\]", text) else text
