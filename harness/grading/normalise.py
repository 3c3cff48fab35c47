"""One writing for answers that differ only in how they are written; string work in linear time."""

from __future__ import annotations

import re

_UNICODE = str.maketrans(
    {
        **{chr(0xFF10 + i): str(i) for i in range(10)},
        "\u2212": "-",
        "\u2010": "-",
        "\u2011": "-",
        "\u2013": "-",
        "\u2014": "-",
        "\uff0d": "-",
        "\uff0b": "+",
        "\uff1d": "=",
        "\uff0c": ",",
        "\uff08": "(",
        "\uff09": ")",
        "\u00a0": " ",
        "\u2009": " ",
        "\u202f": " ",
        "\u00d7": r"\times ",
        "\u00f7": "/",
        "\u00b7": r"\cdot ",
        "\u22c5": r"\cdot ",
        "\u03c0": r"\pi ",
        "\u221e": r"\infty ",
        "\u2264": r"\le ",
        "\u2265": r"\ge ",
        "\u2260": r"\ne ",
        "\u2248": r"\approx ",
        "\u00b1": r"\pm ",
        "\u222a": r"\cup ",
        "\u2229": r"\cap ",
        "\u2208": r"\in ",
        "\u00b0": r"^\circ ",
        "\u00b2": "^2",
        "\u00b3": "^3",
        "\u2019": "'",
        "\u2032": "'",
    }
)
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ud800-\udfff]"
)
_SIZES = re.compile(
    r"\\(?:left|right|middle|[bB]ig{1,2}[lrm]?)(?![a-zA-Z])\s*\.?(?=\s*[()\[\]|{}\\/.])"
    r"|\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|mathstrut|strut|itshape|bfseries|rm|bf|it)(?![a-zA-Z])"
)
_FRAC = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_SHORT_FRAC = re.compile(
    r"\\frac\s*(?:\{(?P<a>[^{}]*)\}|(?P<b>[0-9a-zA-Z]))\s*(?:\{(?P<c>[^{}]*)\}|(?P<d>[0-9a-zA-Z]))"
)
_SHORT_ROOT = re.compile(r"\\sqrt\s*([0-9a-zA-Z])")
_SHORT_BINOM = re.compile(r"\\[dt]binom(?![a-zA-Z])")
_SPACES = re.compile(
    r"(?<!\\)\\[,;:!> ]|\\(?:quad|qquad|hspace\{[^{}]*\}|thinspace|space|enspace)(?![a-zA-Z])|~"
)
_TEXT = re.compile(
    r"\\(?:text|mbox|textrm|textnormal|textup|textbf|textit|mathrm|operatorname|mathbf|hbox)\s*\{"
)
_AND = re.compile(
    r"\s*,?\s*(?:\\(?:text|mbox|textrm|mathrm)\s*\{\s*,?\s*(?:and|or)\s*\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z]))\s*"
)
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?\s*C?\s*$|\\degrees?(?![a-zA-Z])|\\text\s*\{\s*degrees?\s*\}")
_PERCENT = re.compile(r"\\%|(?:\\text\s*\{\s*)?\b(?:percent|pct|percentage)\b(?:\s*\})?")
_GROUPED_SPACE = re.compile(r"(?<![\d.])\d{1,3}(?: \d{3})+(?!\d)")
_GROUPED_COMMA = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])(?!,\s*\d)")
_SCRIPTS = re.compile(r"([a-zA-Z])\^(\w|\{[^{}]*\})_(\w|\{[^{}]*\})")
_SCRIPT_TEXT = re.compile(r"([_^])\{\s*\\(?:text|mathrm|rm|mathit)\s*\{([^{}]*)\}\s*\}")
_UNITS = (
    r"(?:square|cubic|sq|cu)?\.?\s*(?:units?|inch(?:es)?|feet|foot|ft|yards?|miles?|mi|mm|cm|dm|km|nm|meters?|"
    r"metres?|centimeters?|kilometers?|grams?|kg|mg|pounds?|lbs?|ounces?|oz|liters?|litres?|gallons?|seconds?|sec|"
    r"minutes?|mins?|hours?|hrs?|days?|weeks?|months?|years?|degrees?|dollars?|cents?|mph|kmph|km/h|m/s|rad|radians?|"
    r"hertz|hz|kelvin|joules?|newtons?|watts?|volts?|people|students?|points?|ways?|times|pm|am)"
)
_BARE_UNIT = re.compile(rf"(?<=[\d}}])\s*(?<=\s){_UNITS}(?:\s*\^?\s*\{{?[23]\}}?)?$", re.IGNORECASE)
_PYTHON = re.compile(
    r"(?<![\\a-zA-Z.])(?:(?:np|numpy|math)\.)?(sin|cos|tan|arcsin|arccos|arctan|log|ln|exp)(?=\s*[({])"
)
_TAIL = re.compile(r"[\s.,;:*]+$")


def clean(text: str, *, grouped: bool = True) -> str:
    r"""LaTeX that means the same with one writing for spaces, fractions, thousands, sizes, units and signs.

    ``1\,000``, ``1 000``, ``1{,}000`` and ``1,000`` become ``1000``; ``\tfrac12`` becomes ``\frac{1}{2}``; a
    unit in text after a number goes (``15\mbox{ cm}^2`` is ``15``), degrees and currency signs too.
    """
    text = (
        _INVISIBLE.sub("", text).translate(_UNICODE).replace("\r", " ").replace("\n", " ").replace("\t", " ")
    )
    text = unwrap(text.strip())
    text = re.sub(r"\\\$|(?<!\\)\$|[€£¥]", " ", text).strip()
    text = re.sub(r"\\\\(?=[a-zA-Z])", r"\\", text) if "matrix" not in text and "array" not in text else text
    text = _FRAC.sub(r"\\frac", _SIZES.sub("", text))
    text = _SHORT_BINOM.sub(r"\\binom", text)
    text = re.sub(r"\s*\{\s*,\s*\}\s*", "{,}", text)
    text = re.sub(r"(?<=\d)(?:,\\!\s*|\{,\}|\\[,;:]\s*)(?=\d{3}(?!\d))", "", text)
    text = text.replace("{,}", ",").replace("\\!", "")
    text = _SPACES.sub(" ", text)
    text = _PERCENT.sub("%", text)
    text = _PYTHON.sub(r"\\\1", text)
    text = _without_units(_AND.sub(", ", text)) if _AND.search(text) else _without_units(text)
    text = _GROUPED_SPACE.sub(lambda m: m.group().replace(" ", ""), text)
    if grouped:
        text = _GROUPED_COMMA.sub(_ungrouped, text)
    text = _SCRIPTS.sub(r"\1_\3^\2", _SCRIPT_TEXT.sub(r"\1{\2}", text))
    text = _SHORT_FRAC.sub(_full_frac, text)
    text = _SHORT_ROOT.sub(r"\\sqrt{\1}", text)
    text = _TAIL.sub("", text)
    text = re.sub(r"(?<![\d\w])\.(?=\d)", "0.", text)
    text = re.sub(r"(?<=\d)\.(?=\s*[-+*/)])", "", text)
    return re.sub(r"\s+", " ", text).strip()


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
    text = re.sub(r"\s+", "", text).replace("\x00", " ") if not _is_words(text) else text.strip().lower()
    text = re.sub(r"([_^])\{([0-9a-zA-Z])\}", r"\1\2", text)
    text = re.sub(r"([_^])\{([0-9a-zA-Z])\}", r"\1\2", text)
    while len(text) > 2 and text[0] == "{" and _closing_brace(text, 0) == len(text) - 1:
        text = text[1:-1]
    if choice := re.fullmatch(r"\(([A-Za-z])\)\.?", text):
        return choice.group(1)
    return text.rstrip("%") if re.fullmatch(r"[-+]?[\d.]+%", text) else text


def _without_units(text: str) -> str:
    text = _DEGREES.sub("", text).rstrip()
    if match := re.search(r"(?<=[\d})\]%])\s*(\\(?:text|mbox|textrm|textnormal|mathrm|hbox)\s*\{)", text):
        end = _closing_brace(text, match.end() - 1)
        rest = text[end + 1 :].strip() if end is not None else "?"
        if end is not None and re.fullmatch(r"(?:\^\s*\{?\s*-?\d\s*\}?)?[\s.]*", rest):
            inside = text[match.end() : end].strip()
            if text[: match.start()].strip() and not re.fullmatch(r"[,\s]*(?:and|or)[,\s]*", inside):
                text = text[: match.start()].rstrip()
    return _BARE_UNIT.sub("", text)


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


def _closing_brace(text: str, opening: int) -> int | None:
    """Position of the brace that closes the one at ``opening``."""
    depth = 0
    for match in re.finditer(r"\\[\\{}]|[{}]", text[opening:]):
        token = match.group()
        depth += (token == "{") - (token == "}")
        if depth == 0 and token == "}":
            return opening + match.start()
    return None
