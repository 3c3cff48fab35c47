"""Ways to write a number or a formula that graders misread, in one writing that they do not."""

from __future__ import annotations

import re
from fractions import Fraction

_MIXED = re.compile(
    r"(?<![\d.,/^_{a-zA-Z])(\d+)(?:\s|\\[,;: ]|~)+(\d+)\s*/\s*(\d+)(?![\d.]*\d|\s*[/^!a-zA-Z(])"
)
_BAR = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar|overbar)\s*(?:\{\s*(\d{1,40})\s*\}|(\d))(?!\d)")
_DOTS = re.compile(r"(\d*)\.(\d*)\\dot\s*(?:\{(\d)\}|(\d))(?:(\d*)\\dot\s*(?:\{(\d)\}|(\d)))?(?!\d)")
_IN_BRACKETS = re.compile(r"(\d+)\.\((\d{1,40})\)")
_ELLIPSIS = re.compile(r"(\d+)\.(\d+)\s*(?:\\(?:ldots|dots|cdots|dotsc|dotsb)(?![a-zA-Z])|\.{3,})")
_TRIG = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
_DEGREE = re.compile(
    r"(?P<n>\d+(?:\.\d+)?|\\frac\{\d+\}\{\d+\}|\([^()]*\)|\\?[a-zA-Z]+)\s*\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\})"
    r"|(?P<m>\d+(?:\.\d+)?)\s*\\degrees?(?![a-zA-Z])"
)
_PI = re.compile(r"(?<![a-zA-Z\\])[pP]i(?![a-zA-Z])")
_PLAIN_ROOT = re.compile(r"(?<![a-zA-Z\\])(?:(?:np|math)\.)?sqrt\s*\(")
_LETTERS = re.compile(r"(?<![a-zA-Z\\])(?:theta|alpha|beta|infty)(?![a-zA-Z])")


def rewritten(text: str) -> str:
    r"""``pi`` as ``\pi``, ``sqrt(2)`` as ``\sqrt{2}``."""
    text = _PI.sub(r"\\pi ", text)
    return _roots(text)


def mixed(text: str) -> str:
    r"""``3 1/2`` as ``3\frac{1}{2}``; ``1 000/7``, where blanks group thousands, stays."""
    return _MIXED.sub(_mixed, text) if "/" in text else text


def _mixed(match: re.Match[str]) -> str:
    whole, top, bottom = match.groups()
    grouped = len(top) == 3 and (top[0] == "0" or int(top) >= int(bottom))
    return match.group() if grouped else f"{whole}\\frac{{{top}}}{{{bottom}}}"


def periodic(text: str) -> str:
    r"""Repeating decimals as fractions: ``0.\overline{3}``, ``0.\dot3``, ``0.(3)``, ``0.333\ldots``."""
    if "." not in text:
        return text
    text = _BAR.sub(lambda m: _repeating(m[1], m[2], m[3] or m[4]), text)
    text = _IN_BRACKETS.sub(lambda m: _repeating(m[1], "", m[2]), text)
    return _ELLIPSIS.sub(_continued, _DOTS.sub(_dotted, text))


def in_radians(text: str) -> str:
    r"""Degrees in functions: ``\sin 30^\circ`` as ``\sin (\frac{30\pi}{180})``."""
    if not _TRIG.search(text):
        return text
    return re.sub(r"\(\((\\frac\{[^{}]*\\pi\}\{180\})\)\)", r"(\1)", _DEGREE.sub(_radians, text))


def _repeating(whole: str, first: str, block: str) -> str:
    """The fraction of a decimal whose ``block`` is repeated for ever."""
    if not block or len(first + block) > 60:
        return f"{whole}.{first}{block}"
    scale = 10 ** len(first)
    value = Fraction(int((whole + first) or 0), scale)
    value += Fraction(int(block), (10 ** len(block) - 1) * scale)
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


def _dotted(match: re.Match[str]) -> str:
    start, end = match[3] or match[4], match[6] or match[7]
    return _repeating(match[1], match[2], start + (match[5] or "") + end if end else start)


def _continued(match: re.Match[str]) -> str:
    """``0.333…`` goes on as it began where a block stands there at least thrice, or twice in six digits."""
    digits = match[2]
    for length in range(1, 8):
        times = 3 if length < 3 else 2
        block = digits[-length:]
        if len(digits) >= times * length and digits.endswith(block * times):
            first = digits
            while first.endswith(block):
                first = first[:-length]
            return _repeating(match[1], first, block)
    return f"{match[1]}.{digits}"


def _radians(match: re.Match[str]) -> str:
    return f"(\\frac{{{match['n'] or match['m']}\\pi}}{{180}})"


def _roots(text: str) -> str:
    """``sqrt(x+1)`` as ``\\sqrt{x+1}``."""
    for _ in range(8):
        match = _PLAIN_ROOT.search(text)
        if match is None:
            return text
        depth = 1
        for at in range(match.end(), len(text)):
            depth += (text[at] == "(") - (text[at] == ")")
            if depth == 0:
                text = f"{text[: match.start()]}\\sqrt{{{text[match.end() : at]}}}{text[at + 1 :]}"
                break
        else:
            return text
    return text


def bare_minus(text: str) -> str:
    """Without a plus sign in front."""
    return re.sub(r"^\+\s*(?=[\d\\a-zA-Z.])", "", text)


def plus_minus(text: str) -> list[str]:
    r"""The two that ``\pm`` stands for; the text itself where there is none, or more than one."""
    signs = re.findall(r"\\(?:pm|mp)(?![a-zA-Z])", text)
    if len(signs) != 1:
        return [text]
    found = []
    for sign in "+-" if signs[0] == r"\pm" else "-+":
        one = re.sub(r"\\(?:pm|mp)(?![a-zA-Z])\s*", sign, text)
        found.append(re.sub(r"(^|[=({,\[]\s*)\+", r"\1", one).strip())
    return found
