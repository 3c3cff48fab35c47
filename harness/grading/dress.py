r"""LaTeX that is no mathematics: colours, sizes, underlines, tags, the box at the end of a proof."""

from __future__ import annotations

import re

from harness.grading.braces import closing, split

_SWITCHES = re.compile(
    r"\\(?:tiny|scriptsize|footnotesize|small|normalsize|large|Large|LARGE|huge|Huge|boldmath|bfseries|sffamily|"
    r"ttfamily|centering|displaystyle|textstyle|scriptstyle|scriptscriptstyle|bf|rm|it|sf|tt|em|itshape)(?![a-zA-Z])"
)
_COLOUR = re.compile(
    r"\\(?:color|textcolor|colorbox|fcolorbox\s*\{[a-zA-Z0-9!.#, -]*\})\s*(?:\[[^\[\]]*\])?\s*"
    r"\{[a-zA-Z0-9!.#, -]*\}"
)
_ENDS = re.compile(
    r"(?:\s|\\[,;: ]|\\q?quad(?![a-zA-Z])|~)*"
    r"\\(?:blacksquare|square|Box|qed|qedsymbol|checkmark)(?![a-zA-Z])\s*\.?\s*$"
)
_TAG = re.compile(r"\\(?:tag\*?|label|notag|nonumber)(?![a-zA-Z])\s*(?:\{[^{}]*\})?")
_WRAPPERS = re.compile(
    r"\\(?:underline|uline|underbrace|boldsymbol|bm|pmb|mathbf|mathit|mathsf|mathtt|mathnormal|mathop|ensuremath|mbox|emph|cancel|phantom|"
    r"textsf|texttt|textsc|textsl|boxed|fbox|bold)\s*\{"
)
_SINGLE = re.compile(r"\\(?:mathbf|boldsymbol|bm|underline|mathit|mathsf|mathrm)\s+(\d|[a-zA-Z](?![a-zA-Z]))")
_WORD = re.compile(r"\s*(?:[^\W\d_][\w.' -]*[^\W\d_.][\w.]*|\([A-Za-z]\))\s*")
_MATH_NAMES = re.compile(r"\\(?:mathrm|operatorname\*?|textrm|mathop)\s*\{\s*([a-zA-Z])\s*\}")


def off(text: str) -> str:
    r"""``\color{red}{7}``, ``\large 7``, ``\underline{7}``, ``7\tag{1}``, ``7\quad\blacksquare`` as ``7``."""
    if "\\" not in text:
        return _whole(text)
    text = _TAG.sub("", _COLOUR.sub("", _ENDS.sub("", text)))
    text = _SINGLE.sub(r"\1", _SWITCHES.sub(" ", text))
    for _ in range(4):
        before, text = text, _unwrapped(text)
        if text == before:
            break
    return _whole(_MATH_NAMES.sub(_roman, text).strip())


def _roman(match: re.Match[str]) -> str:
    """An upright i or e is the number; other upright letters may be units and stay."""
    return match[1] if match[1] in "ie" else match.group()


def _unwrapped(text: str) -> str:
    """Bold letters and numbers without the command; bold words are text."""
    parts, at = [], 0
    for match in _WRAPPERS.finditer(text):
        if match.start() < at:
            continue
        end = closing(text, match.end() - 1)
        if end is None:
            continue
        inner = text[match.end() : end]
        word = _WORD.fullmatch(inner) is not None
        between = " " if text[: match.start()].endswith(("\\cdot", "\\times")) else ""
        parts.append(text[at : match.start()] + (f"\\text{{{inner}}}" if word else between + _grouped(inner)))
        at = end + 1
    return "".join(parts) + text[at:]


def _grouped(inner: str) -> str:
    return inner if len(inner) == 1 or re.fullmatch(r"[\d.,]+", inner) else f"{{{inner}}}"


def _whole(text: str) -> str:
    """Without braces around the whole."""
    for _ in range(4):
        if not (text.startswith("{") and closing(text, 0) == len(text) - 1):
            break
        if len(split(text[1:-1], ",")) > 1:  # {1,3} is a set to those who forget the backslash
            break
        text = text[1:-1].strip()
    return text
