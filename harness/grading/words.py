"""Words in answers: those that say nothing, those that change a value, and those that are a value."""

from __future__ import annotations

import re
from fractions import Fraction

_WRAP = r"\\(?:text|mbox|textrm|textnormal|textup|textbf|textit|mathrm|hbox|mathbf)\s*\{"
_LEADING = re.compile(
    rf"(?:{_WRAP})?\s*(?:(?:so|thus|hence|therefore)[, ]+)?(?:(?:the|our|my)\s+)?(?:(?:final|correct|exact|total)\s+)*"
    r"(?:answer|result|total|solution|value)\s*(?:is|=|:)\s*:?\s*(?P<close>\}?)\s*(?=.)",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    rf"(?:{_WRAP})?\s*(?:approximately|approx\.?|about|roughly|around|nearly|circa|ca\.)(?![a-zA-Z])\s*(?P<close>\}}?)\s*"
    r"(?=\S)",
    re.IGNORECASE,
)
_APPROX = re.compile(r"\\(?:approx|simeq|sim)(?![a-zA-Z])\s*")
_QUALIFIER = re.compile(
    rf"\s*(?:,|\\[,;: ]|\\q?quad|~)*\s*(?:{_WRAP}\s*|\(\s*{_WRAP}\s*)?,?\s*(?:for\s+(?:all|every|each|any|some)\b|for\b|"
    r"where\b|when\b|with\b|whenever\b|provided\b)",
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
_EMPTY = frozenset(
    """empty set|the empty set|no solution|no solutions|no real solution|no real solutions|there is no solution|
    there are no solutions|there are no real solutions|there is no real solution|has no solution|
    has no solutions|no such solution|no solution exists|no solutions exist""".replace("\n", "").split("|")
)
_ALL = frozenset(
    """all real numbers|all reals|all real|the set of all real numbers|the set of real numbers|real numbers|
    every real number|any real number|the real numbers|all real values|all real x|all real numbers x""".replace(
        "\n", ""
    ).split("|")
)
_INFINITE = {
    "infinity": r"\infty", "positive infinity": r"\infty", "plus infinity": r"\infty",
    "negative infinity": r"-\infty", "minus infinity": r"-\infty",
}  # fmt: skip
EMPTY, ALL = r"\emptyset", r"(-\infty,\infty)"
_ARTICLE = re.compile(r"^(?:an?|the)\s+(?=[a-z]{2})", re.IGNORECASE)
_BASES = dict(
    zip("two three four five six seven eight nine ten eleven twelve sixteen".split(), (*range(2, 13), 16), strict=True)
)
_BASE_WORD = re.compile(rf"_\s*\{{\s*(?:{_WRAP})?\s*({'|'.join(_BASES)}|\d+)\s*\}}?\s*\}}", re.IGNORECASE)
_BASE_BRACKETS = re.compile(r"(?:\(([0-9A-Za-z]+)\)|\{([0-9A-Za-z]+)\})\s*(?=_\s*\{?\s*\d{1,2}\}?$)")


def plain_answer(text: str) -> str:
    r"""Without "the answer is", "about", ``\approx`` in front and "for all real x" behind."""
    for pattern in (_LEADING, _ABOUT):
        if (match := pattern.match(text)) and match.end() < len(text):
            opened = "{" in match.group()
            rest = text[match.end() :]
            if opened and not match["close"]:  # the wrapper goes on: \text{about 7}
                rest = rest.replace("}", "", 1)
            text = rest.strip()
    if match := _APPROX.match(text):
        text = text[match.end() :]
    return unqualified(text)


def unqualified(text: str) -> str:
    """What stands before "for all n", "where x > 0"; a whole answer in words stays."""
    match = _QUALIFIER.search(text)
    if match is None or not text[: match.start()].strip() or not re.search(r"[\d\\=^+*/-]", text[: match.start()]):
        return text
    before = text[: match.start()].rstrip(" ,~")
    if match.group().lstrip(" ,~").startswith("\\") or "(" in match.group():
        return before
    bare = re.search(r"\d|\\", before) and not re.search(r"(?<![\\a-zA-Z])[a-zA-Z]{3,}", before)
    return before if bare and before.count("{") == before.count("}") else text


def scaled(text: str) -> str:
    r"""``2.5\text{ million}`` as ``2500000``, ``3 dozen`` as ``36``."""
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
    words = words.strip(" .!").lower()
    if words in _EMPTY:
        return EMPTY
    if words in _ALL:
        return ALL
    return _INFINITE.get(words)


def plain_word(words: str) -> str:
    """``The ellipse.`` as ``ellipse``."""
    return _ARTICLE.sub("", words.strip().rstrip(".!").strip())


def number_base(text: str) -> str:
    r"""``(413)_6``, ``413_{\text{six}}`` as ``413_{6}``."""
    if "_" not in text:
        return text
    text = _BASE_WORD.sub(lambda m: f"_{{{_BASES.get(m[1].lower(), m[1])}}}", text)
    return _BASE_BRACKETS.sub(lambda m: m[1] or m[2], text) if re.match(r"[({=\w\s]", text) else text
