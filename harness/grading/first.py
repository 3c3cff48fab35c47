"""The first grader's symbolic part: math-verify, called inside a worker with its own timeouts off."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from fractions import Fraction
from functools import lru_cache
from typing import Any

from harness.grading import numbers, shortcuts, two_stage

#: Pairs that make sympy import what it imports late: sets, polynomials, matrices, sums, relations, units.
_WARM_UP = (
    (r"\tan^2(y)+1", r"\sec^2(y)"),
    ("0<f(x)<1", "(0,1)"),
    (r"(-\infty,3]", r"x \le 3"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&5\end{pmatrix}"),
    (r"\sum_{k=1}^{3} k", "6"),
    (r"\int_0^1 x dx", r"\frac{1}{3}"),
    (r"x^2+y^2=1", r"y^2=2-x^2"),
    (r"\sqrt[3]{x}+\log(y)", r"x^{1/3}"),
    (r"\{1,2\}", r"\{2,3\}"),
    (r"|x|+\binom{5}{2}i", "5!"),
)
_SUBSCRIPT = re.compile(r"_\{?\s*\\([a-zA-Z]+)\s*\}?")
_IMAGINARY = re.compile(r"(?<![a-zA-Z\\_])i(?![a-zA-Z])")
_NAMES = re.compile(
    r"\\(?:text|mathrm|operatorname|begin|end)\s*\{[^{}]*\}|\\[a-zA-Z]+"
    r"|(?P<letter>[a-zA-Z])(?:_(?:\{\w+\}|\w))?"
)
_GAMMA = re.compile(r"\\(?P<name>gamma|Gamma(?!\s*\())(?![a-zA-Z])(?:_\{?(?P<index>\d)\}?)?")
_LOG = re.compile(r"\\log(?![a-zA-Z])(?!\s*_)")
_config: Any = None


def load() -> None:
    """Import math-verify and grade one pair, so that its grammar is ready before workers are forked."""
    global _config
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    logging.getLogger("latex2sympy2_extended").setLevel(logging.CRITICAL)
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
    from math_verify import LatexExtractionConfig

    two_stage.install()
    # No unit removal: its list makes "4t" a 4. Units are gone before (harness.grading.normalise).
    normalization = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="last", equations=False
    )
    _config = LatexExtractionConfig(boxed_match_priority=0, normalization_config=normalization)
    for gold, pred in _WARM_UP:
        judge(gold=gold, pred=pred)


def judge(*, gold: str, pred: str) -> dict[str, Any]:
    """Whether two cleaned answers are equal to math-verify, and not only because both are tiny.

    Two numbers that it calls different are the same when their values are, to six digits where one of them is
    a decimal.
    """
    from math_verify import verify

    gold, pred = _letters_apart(gold, pred)
    gold_parsed = _parse(gold)
    pred_parsed = _parse(pred)
    if not gold_parsed or not pred_parsed:
        return {"status": "unparsed"}
    if (close := _close(gold_parsed[0], pred_parsed[0])) is not None:
        return {"status": "right" if close else "wrong"}
    if shortcuts.equal(gold_parsed[0], pred_parsed[0]):
        return {"status": "right"}
    if shortcuts.apart(gold_parsed[0], pred_parsed[0]) and not _same_text(gold_parsed, pred_parsed):
        return {"status": "wrong"}
    right = verify(gold_parsed, pred_parsed, timeout_seconds=None, strict=True, allow_set_relation_comp=True)
    return {"status": "right" if right else "wrong"}


def _same_text(a: list[Any], b: list[Any]) -> bool:
    """Whether math-verify would find two equal strings."""
    texts = {value.strip() for value in a if isinstance(value, str)}
    return any(isinstance(value, str) and value.strip() in texts for value in b)


def _close(a: Any, b: Any) -> bool | None:
    """Whether two numbers are the same; None where either is none, or too large to be worked out."""
    import sympy

    if not (isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr)) or a.free_symbols or b.free_symbols:
        return None
    if a.has(sympy.zoo, sympy.nan, sympy.oo) or b.has(sympy.zoo, sympy.nan, sympy.oo):
        return None
    a, b = a.doit(), b.doit()
    if a.is_Rational and b.is_Rational:
        return bool(a == b) or _hundredfold(a, b)
    left, right = _parts(a), _parts(b)
    if left is None or right is None:
        return None
    if a.is_Float != b.is_Float and not (a.is_Rational or b.is_Rational):
        exact, decimal = (right, left) if a.is_Float else (left, right)
        return all(numbers.agree(x, y) for x, y in zip(exact, decimal, strict=True))
    if a.is_Float != b.is_Float:
        ours, theirs = (Fraction(str(x)) if x.is_Float else Fraction(x.p, x.q) for x in (a, b))
        return numbers.close(ours, theirs, bool(a.is_Float), bool(b.is_Float)) or _hundredfold(
            left[0], right[0]
        )
    off = max(abs(x - y) for x, y in zip(left, right, strict=True))
    size = max(abs(x) for x in (*left, *right))
    inexact = a.has(sympy.Float) or b.has(sympy.Float)
    return off <= size * Fraction(1, 10 ** (10 if inexact else 15)) or (
        left[1] == right[1] == 0 and _hundredfold(left[0], right[0])
    )


def _parts(value: Any) -> tuple[Fraction, Fraction] | None:
    """Real and imaginary part to 25 digits; a decimal as it was written."""
    if value.is_Float:
        return Fraction(str(value)), Fraction(0)
    parts = value.evalf(25, maxn=200).as_real_imag()
    if not all(part.is_Float or part.is_Rational for part in parts):
        return None
    real, imaginary = (Fraction(str(part)) for part in parts)
    return real, imaginary


def _hundredfold(a: Any, b: Any) -> bool:
    """28 % against 28: math-verify reads the sign as a factor; the sign may go."""
    return bool(abs(a - 100 * b) * 10**12 <= abs(a) or abs(b - 100 * a) * 10**12 <= abs(b))


@lru_cache(maxsize=200)  # the elements of a list are compared with one another
def _parse(cleaned: str) -> list[Any]:
    from math_verify import parse

    cleaned = _SUBSCRIPT.sub(r"_{\1}", cleaned.replace("%", r"\%"))  # its grammar knows no command there
    cleaned = _IMAGINARY.sub(" i ", cleaned)  # it knows "2 i" for a complex number, not "2i"
    cleaned = _LOG.sub(r"\\ln", cleaned)  # it takes the logarithm to base 10 where computer algebra does not
    cleaned = _GAMMA.sub(_letter, cleaned)  # it reads the letters as functions without an argument
    cleaned = re.sub(r"(?<=\d),(?=\d)", ", ", cleaned)  # thousands are grouped no more: these are two numbers
    found = parse(
        "$\\boxed{" + cleaned + "}$",
        extraction_config=[_config],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    return [_with_imaginary_unit(value) for value in found]


def _letters_apart(gold: str, pred: str) -> tuple[str, str]:
    """Both with names that differ in upper and lower case only renamed: math-verify takes V/v for 1."""
    spelled: dict[str, set[str]] = defaultdict(set)
    for match in (*_NAMES.finditer(gold), *_NAMES.finditer(pred)):
        if match["letter"]:
            spelled[match.group().lower()].add(match.group())
    clash = sorted(name for names in spelled.values() if len(names) > 1 for name in names)
    if not clash:
        return gold, pred

    def renamed(match: re.Match[str]) -> str:
        name = match.group()
        return f"{name[0].lower()}_{{8{clash.index(name)}}}" if name in clash and match["letter"] else name

    return _NAMES.sub(renamed, gold), _NAMES.sub(renamed, pred)


def _letter(match: re.Match[str]) -> str:
    """γ as a name of its own, with its index."""
    return f" G_{{9{match['name'][0] == 'g':d}9{match['index'] or ''}}} "


def _with_imaginary_unit(value: Any) -> Any:
    """i is the number wherever it is not the index of a sum."""
    import sympy

    if not isinstance(value, sympy.Expr):
        return value
    return value.subs({symbol: sympy.I for symbol in value.free_symbols if symbol.name == "i"})
