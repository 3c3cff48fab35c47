"""One writing for answers that differ only in how they are written; string work in linear time."""

from __future__ import annotations

import re

from harness.grading import characters, dress, formulas, units, words
from harness.grading.braces import closing as _closing_brace
from harness.grading.braces import pieces, split

_SIZES = re.compile(
    r"\\(?:left|right|middle|[bB]ig{1,2}[lrm]?)(?![a-zA-Z])\s*\.?(?=\s*[()\[\]|{}\\/.])"
    r"|\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|mathstrut|strut|itshape|bfseries|rm|bf|it)(?![a-zA-Z])"
)
_FRAC = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_SHORT_FRAC = re.compile(
    r"\\frac\s*(?:\{(?P<a>[^{}]*)\}|(?P<b>[0-9a-zA-Z]|\\(?:pi|theta|alpha|beta)(?![a-zA-Z])))\s*"
    r"(?:\{(?P<c>[^{}]*)\}|(?P<d>[0-9a-zA-Z]|\\(?:pi|theta|alpha|beta)(?![a-zA-Z])))"
)
_SHORT_ROOT = re.compile(r"\\sqrt\s*((?:\[[^\[\]]*\])?)\s*([0-9a-zA-Z])")
_BARE_BINOM = re.compile(r"\\binom\s*([0-9a-zA-Z])\s*([0-9a-zA-Z])")
_CHOOSE = re.compile(r"\{?\s*(\w+)\s*\\choose\s*(\w+)\s*\}?")
_SHORT_BINOM = re.compile(r"\\[dt]binom(?![a-zA-Z])")
_SPACES = re.compile(r"(?<!\\)\\[,;:!> ]|\\(?:hspace\{[^{}]*\}|thinspace|space|enspace)(?![a-zA-Z])|~")
_WIDE = re.compile(r"\\q?quad(?![a-zA-Z])")
_TEXT = re.compile(
    r"\\(?:text|mbox|textrm|textnormal|textup|textbf|textit|mathrm|operatorname|mathbf|hbox)\s*\{"
)
_AND = re.compile(
    r"\s*,?\s*(?:\\(?:text|mbox|textrm|mathrm)\s*\{\s*,?\s*(?:and|or)\s*\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z]))\s*"
)
_AND_OUTSIDE = re.compile(
    rf"{_AND.pattern}|(?P<kept>\\(?:text|mbox|textrm|textbf|textit|mathrm)\s*\{{[^{{}}]*\}})"
)
_ORDER = re.compile(r"[<>]|\\(?:le|ge|leq|geq|lt|gt|ne|neq|leqslant|geqslant)(?![a-zA-Z])|\\infty")
_PERCENT = re.compile(r"\\%|(?:\\text\s*\{\s*)?\b(?:percent|pct|percentage)\b(?:\s*\})?")
_GROUPED_SPACE = re.compile(r"(?<![\d.])\d{1,3}(?: \d{3})+(?!\d)")
_GROUPED_COMMA = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])(?!,\s*\d)")
_SCRIPTS = re.compile(r"([a-zA-Z])\^(\w|\{[^{}]*\})_(\w|\{[^{}]*\})")
_SCRIPT_TEXT = re.compile(r"([_^])\{\s*\\(?:text|mathrm|rm|mathit)\s*\{([^{}]*)\}\s*\}")
_UNITS = (
    r"(?:square|cubic|sq|cu)?\.?\s*(?:units?|inch(?:es)?|feet|foot|ft|yards?|miles?|mi|mm|cm|dm|km|nm|meters?|"
    r"metres?|centimeters?|kilometers?|grams?|kg|mg|pounds?|lbs?|ounces?|oz|liters?|litres?|gallons?|seconds?|sec|"
    r"minutes?|mins?|hours?|hrs?|days?|weeks?|months?|years?|degrees?|dollars?|cents?|mph|kmph|km/h|m/s|rad|radians?|"
    r"hertz|hz|kelvin|joules?|newtons?|watts?|volts?|people|students?|points?|ways?|times)"
)
_BARE_UNIT = re.compile(rf"(?:(?<=[\d}})!])|(?<=\\pi))\s+{_UNITS}(?:\s*\^?\s*\{{?[23]\}}?)?$", re.IGNORECASE)
_PYTHON = re.compile(
    r"(?<![\\a-zA-Z.])(?:(?:np|numpy|math)\.)?(sin|cos|tan|arcsin|arccos|arctan|log|ln|exp)(?=\s*[({])"
)
_DOLLAR = re.compile(r"(?<!\\)\$")
_TO = re.compile(r"(?<=[\da-z}])\s*(?:\\text\s*\{\s*to\s*\}|(?<=\s)to(?=\s))\s*(?=[\d\\a-z])")
_POINTED = re.compile(r"^\s*<([^<>]+,[^<>]+)>\s*$")
_WHOLE = re.compile(r"\\(?:text|mbox|textrm|textbf|textit|mathrm|hbox)\s*\{([^{}]*)\}[\s.]*")
_TAIL = re.compile(r"[\s.,;:*]+$")


def clean(text: str, *, grouped: bool = True) -> str:
    r"""LaTeX that means the same with one writing for spaces, fractions, thousands, sizes, units and signs.

    ``1\,000``, ``1 000``, ``1{,}000`` and ``1,000`` become ``1000``; ``\tfrac12`` becomes ``\frac{1}{2}``; a
    unit in text after a number goes (``15\mbox{ cm}^2`` is ``15``), degrees and currency signs too.
    """
    return units.take(written(text, grouped=grouped))[0]


def written(text: str, *, grouped: bool = True) -> str:
    r"""The same with the unit kept behind it: ``15 \unit{cm^2}``."""
    text = characters.latex(text).replace("\r", " ").replace("\n", " ").replace("\t", " ")
    text = unwrap(text.strip())
    if len(_DOLLAR.findall(text)) > 1:  # around formulas; alone it is money
        text = _DOLLAR.sub(" ", text).strip()
    text = _meant(text)
    text, unit = _without_unit(text)
    text = re.sub(r"\\\$|(?<!\\)\$|[€£¥]", " ", text).strip()
    text = re.sub(r"\\\\(?=[a-zA-Z])", r"\\", text) if "matrix" not in text and "array" not in text else text
    text = re.sub(r"\s*\{\s*,\s*\}\s*", "{,}", formulas.mixed(text))
    text = re.sub(r"(?<=\d)(?:,\\!\s*|\{,\}|\\[,;:]\s*)(?=\d{3}(?!\d))", "", text)
    text = text.replace("{,}", ",").replace("\\!", "")
    text = _WIDE.sub("  ", _SPACES.sub(" ", text))
    text = _PERCENT.sub("%", text)
    text = _PYTHON.sub(r"\\\1", text).replace("**", "^")
    text = _POINTED.sub(r"\\langle \1\\rangle", text)
    text = _GROUPED_SPACE.sub(lambda m: m.group().replace(" ", ""), text)
    if grouped:
        text = _GROUPED_COMMA.sub(_ungrouped, text)
    text = _SCRIPTS.sub(r"\1_\3^\2", _SCRIPT_TEXT.sub(r"\1{\2}", text))
    text = _in_full(text)
    text = _TAIL.sub("", text)
    text = re.sub(r"(?<![\d\w])\.(?=\d)", "0.", text)
    text = re.sub(r"(?<=\d)\.(?=\s*[-+*/)])", "", text)
    text = words.number_base(formulas.rewritten(re.sub(r"\s+", " ", text).strip()))
    text = re.sub(r"\s+", " ", _in_full(text)).strip()
    return text if len(split(text, ",")) > 1 else units.marked(text, unit)


def _in_full(text: str) -> str:
    text = _CHOOSE.sub(r"\\binom{\1}{\2}", _BARE_BINOM.sub(r"\\binom{\1}{\2}", text))
    return _SHORT_ROOT.sub(r"\\sqrt\1{\2}", _SHORT_FRAC.sub(_full_frac, text))


def _meant(text: str) -> str:
    """Without dress and idle words; words that are mathematics as such, and signs for "and" and "or"."""
    text = _SHORT_BINOM.sub(r"\\binom", _FRAC.sub(r"\\frac", _SIZES.sub("", dress.off(text))))
    if (whole := _WHOLE.fullmatch(text)) and re.search(r"\d", whole[1]):  # \text{10 inches}
        text = whole[1].strip()
    text = unwrap(words.scaled(words.plain_answer(formulas.periodic(text))))
    text = _TO.sub(":", formulas.in_radians(text))
    meant = words.value(_strip_text(text))
    return meant or (_joined(text) if _AND.search(text) else text)


def _joined(text: str) -> str:
    r"""Commas for "and" and "or"; between inequalities ``\land`` and ``\lor``."""
    order = _ORDER.search(text)

    def sign(match: re.Match[str]) -> str:
        if match["kept"]:  # words of a text: "5 and a half"
            return match.group()
        return ", " if not order else r" \lor " if "or" in match.group() else r" \land "

    return _AND_OUTSIDE.sub(sign, text)


def _without_unit(text: str) -> tuple[str, str]:
    """The text without units, and the unit of the whole."""
    text, unit = units.split(text)
    if not unit and (bare := _BARE_UNIT.search(text)):
        text, unit = text[: bare.start()], units.unit(bare.group())
    if "," in text and "\\text" in text or "\\circ" in text:
        parts, marks = pieces(text, {","})
        if len(parts) > 1:
            parts = [units.split(part)[0] for part in parts]
            text = "".join(a + b for a, b in zip(parts, [*(mark + " " for mark in marks), ""], strict=True))
    return text, unit


def unwrap(text: str) -> str:
    """Without the dollar signs, brackets, boxes or bold marks that enclose the whole."""
    for _ in range(4):
        before = text
        for opening, closing in (
            ("$$", "$$"),
            ("\\[", "\\]"),
            ("\\(", "\\)"),
            ("$", "$"),
            ("**", "**"),
            ("`", "`"),
            ('"', '"'),
        ):
            inner = text[len(opening) : -len(closing)]
            enclosed = text.startswith(opening) and text.endswith(closing) and len(text) > 2 * len(opening)
            if enclosed and opening not in inner and not inner.endswith("\\"):
                text = inner.strip()
        match = re.match(r"\\(?:boxed|fbox|mathbf|bm|displaystyle)\s*\{", text)
        if match and _closing_brace(text, match.end() - 1) == len(text) - 1:
            text = text[match.end() : -1].strip()
        if text == before:
            return text
    return text


def key(cleaned: str) -> str:
    r"""The string by which cleaned answers are compared: no blanks, no text wrappers, words in lower case.

    Upper and lower case stay apart in mathematics (``T`` is not ``t``) and do not in words (``Even``).
    """
    text = _strip_text(cleaned)
    text = re.sub(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])", "\\1\x00", text)
    if _is_words(text):
        text = text.strip().lower()
    else:  # blanks between digits stay: 1 2 is not 12
        text = re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text).replace("\x00", " ")
    text = re.sub(r"([_^])\{([0-9a-zA-Z])\}", r"\1\2", text)
    text = re.sub(r"([_^])\{([0-9a-zA-Z])\}", r"\1\2", text)
    while len(text) > 2 and text[0] == "{" and _closing_brace(text, 0) == len(text) - 1:
        text = text[1:-1]
    if choice := re.fullmatch(r"\(([A-Za-z])\)\.?", text):
        return choice.group(1)
    text = formulas.bare_minus(text)
    return text.rstrip("%") if re.fullmatch(r"[-+]?[\d.]+%", text) else text


def _ungrouped(match: re.Match[str]) -> str:
    """``1,234`` as ``1234``, but not inside brackets, where commas divide."""
    before = match.string[: match.start()]
    inside = sum(before.count(c) for c in "([") > sum(before.count(c) for c in ")]") or "\\{" in before
    return match.group() if inside else match.group().replace(",", "")


def _full_frac(match: re.Match[str]) -> str:
    top = match["a"] if match["a"] is not None else match["b"]
    bottom = match["c"] if match["c"] is not None else match["d"]
    return rf"\frac{{{top}}}{{{bottom}}}"


def _strip_text(text: str) -> str:
    r"""``\text{east}`` -> ``east``, in one pass."""
    for _ in range(3):
        match = _TEXT.search(text)
        if match is None:
            return text
        parts, at = [], 0
        for match in _TEXT.finditer(text):
            if match.start() < at:
                continue
            end = _closing_brace(text, match.end() - 1)
            if end is None:
                continue
            parts.append(text[at : match.start()] + text[match.end() : end])
            at = end + 1
        text = "".join(parts) + text[at:]
    return text


def _is_words(text: str) -> bool:
    return re.fullmatch(r"\s*[^\W\d_]{2,}(?:[ '-]+[^\W\d_]+)*\s*", text) is not None
