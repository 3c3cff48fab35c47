r"""Units behind a number: read, kept as ``\unit{…}`` until two answers are compared, never converted.

A unit that one side leaves out is a matter of policy (it may); a different one is another quantity. ``?`` is
a word that is no unit, as in "12 eggs".
"""

from __future__ import annotations

import re

from harness.grading.unit_names import CHINESE, GENERIC, named

_WRAPPED = (
    r"\\(?:text|mbox|textrm|textnormal|textup|textbf|textit|mathrm|rm|hbox|operatorname|mathit)\s*"
    r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}"
)
_POWER = r"(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d))?"
_GAP = r"(?:[\s~./]|\\[,;:! ]|\\(?:cdot|times|quad|qquad|thinspace)(?![a-zA-Z]))*"
_ATOM = (
    rf"(?:{_WRAPPED}|\\frac\s*\{{\s*(?:{_WRAPPED}{_POWER}{_GAP})+\}}\s*\{{\s*(?:{_WRAPPED}{_POWER}{_GAP})+\}}"
    r"|\\Omega(?![a-zA-Z])|\\mu(?=\s*\\(?:text|mathrm))|\\(?:AA|degrees?|degree)(?![a-zA-Z])"
    r"|\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\})(?:\s*[CF](?![a-zA-Z]))?)"
)
_TAIL = re.compile(rf"{_GAP}{_ATOM}{_POWER}(?:{_GAP}{_ATOM}{_POWER})*[\s.]*$")
_START = re.compile(rf"{_GAP}{_ATOM}")
_WORDS = re.compile(
    r"(?P<number>[-+]?\s*(?:\\\$)?[\d.,\\!]*\d(?:\s+\d+/\d+|\s*\\frac\{\d+\}\{\d+\}|/\d+)?)"
    r"(?P<words>(?:\s|\\[ ,;:]|~)+[a-zA-Z][a-zA-Z-]+\.?"
    r"(?:[\s/]+[a-zA-Z][a-zA-Z-]*\.?)*(?:\s*\^\s*\{?\s*[23]\s*\}?)?"
    r"|\s*[\u4e00-\u9fff]+)\s*"
)
_CLOSE_UP = re.compile(
    r"(?P<number>[-+]?[\d.,]*\d)(?P<words>(?:mm|cm|km|kg|mL|ml|ft|mph|lbs?)(?:\^\{?[23]\}?)?)"
)
_NO_UNIT = re.compile(
    r"(?:and|or|to|pi|sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|mod|choose|dozens?|hundreds?|thousands?|millions?|billion|"
    r"trillion|"
    r"base|half|halves|thirds?|quarters?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?|hundredths?|"
    r"thousandths?|squared|cubed|factorial|less|more|fewer|plus|minus|over|"
    r"[ap]\.?m\.?|if|when|for|where|with|is|times|percent|pct|only if)\b|万|亿|百|千(?![米克])|十",
    re.IGNORECASE,
)
#: Inside of a noun these still change the number: "4 units more", "4 hours and 30 minutes".
_CHANGES = re.compile(
    r"\b(?:more|less|fewer|power|or|plus|minus|over|half|halves|"
    r"and (?:a|an|one|two|three|half))\b|(?<![\^-])\d"
)
_CURRENCY = re.compile(
    r"(?P<sign>[-+]?)\s*(?:\\text\s*\{)?\s*(?P<mark>\\\$|\$|€|£|¥)\s*(?P<rest>.*)", re.DOTALL
)
_MONEY = {"$": "dollar^1", "\\$": "dollar^1", "€": "euro^1", "£": "pound^1", "¥": "yen^1"}
_MARK = re.compile(r"\s*\\unit\{([^{}]*)\}$")
_TOKEN = re.compile(r"\^\s*-?\s*\d|/|[a-zA-Zµ\u03a9\u4e00-\u9fff°$€£¥]+")


def split(text: str) -> tuple[str, str]:
    r"""Answer and unit: ``("15", "cm^2")`` of ``15\text{ cm}^2``; "" where none is."""
    sign = _CURRENCY.fullmatch(text)
    if sign and re.match(r"[\d.]", sign["rest"]):
        rest, behind = split(sign["rest"])
        return sign["sign"] + rest, behind if behind not in ("", "?") else _MONEY[sign["mark"]]
    if text.endswith("\\$") and text[:-2].strip():
        return text[:-2].strip(), "dollar^1"
    if found := _WORDS.fullmatch(text) or _CLOSE_UP.fullmatch(text):
        if not _NO_UNIT.match(found["words"].strip()):
            return found["number"].strip(), unit(found["words"])
    return _behind(text)


def _behind(text: str) -> tuple[str, str]:
    """Units in text or roman letters behind a number, a bracket, π or, where they are known, a letter."""
    match = _TAIL.search(text)
    while match is not None:
        before, found = text[: match.start()].rstrip(), match.group()
        if _ends_answer(before, found):
            return before, unit(found)
        start = _START.match(text, match.start())
        match = _TAIL.search(text, start.end()) if start else None
    return text, ""


def _ends_answer(before: str, found: str) -> bool:
    if not before or re.search(r"[-+*/^_=<>,:(]$|\\(?:cdot|times|le|ge|cup|cap|in|approx|to)$", before):
        return False
    inner = re.sub(r"[\\{}~]|text\w*|mathrm|mbox", " ", found).strip(" ,;:.")
    if not inner or _NO_UNIT.match(inner) or _CHANGES.search(inner):
        return False
    if re.search(r"[\d)\]}%!]$|\\pi$|\\infty$", before):
        return True
    return unit(found) not in ("?", "") or inner.lower() in GENERIC


def unit(text: str) -> str:
    """The unit that a text writes, in one writing: ``m/s``, ``m s^{-1}``, ``meters per second`` are one."""
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![a-zA-Z])", " °", text)
    text = re.sub(r"\\Omega(?![a-zA-Z])", " Ω ", text)
    text = re.sub(r"\\mu(?![a-zA-Z])\s*(?:\\(?:text|mathrm)\s*\{)?", " µ", text)
    text = re.sub(r"\\frac\s*\{(.*)\}\s*\{(.*)\}", r"\1 / \2", text)
    text = re.sub(
        r"\\(?:text\w*|mbox|mathrm|mathit|rm|hbox|operatorname|cdot|times|quad|qquad|[,;:! ])", " ", text
    )
    text = re.sub(r"[{}~.()]", " ", text.replace("-", " ") if "^" not in text else text)
    tokens = _TOKEN.findall(text)
    if " ".join(tokens).lower() in GENERIC:
        return ""
    powers = _powers(tokens)
    if powers is None:
        return "?"
    return "*".join(f"{name}^{power}" for name, power in sorted(powers.items()) if power) or ""


def _powers(tokens: list[str]) -> dict[str, int] | None:
    """Exponent of each unit, up to the first unknown word; None where that is the first."""
    powers: dict[str, int] = {}
    sign, raised, last = 1, 1, ""
    for at, token in enumerate(tokens):
        word = token.lower()
        if token.startswith("^"):
            if last:
                powers[last] += sign * (int(re.sub(r"[\^\s]", "", token)) - 1)
            continue
        if token == "/" or word in ("per", "an", "a"):
            sign = -1 if token == "/" or word == "per" else sign
            continue
        if word in ("square", "sq", "cubic", "cu"):
            raised = 2 if word.startswith("sq") else 3
            continue
        if word in ("squared", "cubed") and last:
            powers[last] += sign * (1 if word == "squared" else 2)
            continue
        parts = CHINESE.get(token) or named(token)
        if token == "in" and at + 1 < len(tokens) and not tokens[at + 1].startswith(("^", "/")):
            parts = None
        if parts is None:
            break
        for name, power in parts:
            powers[name] = powers.get(name, 0) + sign * power * raised
            last = name
        raised = 1
    return powers or None


def marked(text: str, name: str) -> str:
    """The answer with its unit behind it."""
    return f"{text} \\unit{{{name}}}" if name else text


def take(text: str) -> tuple[str, str]:
    """An answer and the unit that :func:`marked` put there."""
    match = _MARK.search(text)
    return (text[: match.start()], match.group(1)) if match else (text, "")


def differ(a: str, b: str) -> bool:
    """Whether both sides name a unit, and not the same."""
    return bool(a and b and a != b)
