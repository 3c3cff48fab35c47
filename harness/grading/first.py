"""The first grader's symbolic part: math-verify, called inside a worker with its own timeouts off."""

from __future__ import annotations

import logging
import re
from typing import Any

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
_config: Any = None


def load() -> None:
    """Import math-verify and grade one pair, so that its grammar is ready before workers are forked."""
    global _config
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    logging.getLogger("latex2sympy2_extended").setLevel(logging.CRITICAL)
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
    from math_verify import LatexExtractionConfig

    # No unit removal: its list makes "4t" a 4. Units are gone before (harness.grading.normalise).
    normalization = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="last", equations=False
    )
    _config = LatexExtractionConfig(boxed_match_priority=0, normalization_config=normalization)
    for gold, pred in _WARM_UP:
        judge(gold=gold, pred=pred)


def judge(*, gold: str, pred: str) -> dict[str, Any]:
    """Whether two cleaned answers are equal to math-verify, and not only because both are tiny."""
    from math_verify import verify

    gold_parsed = _parse(gold)
    pred_parsed = _parse(pred)
    if not gold_parsed or not pred_parsed:
        return {"status": "unparsed"}
    right = verify(gold_parsed, pred_parsed, timeout_seconds=None, strict=True, allow_set_relation_comp=True)
    return {"status": "right" if right and not _apart(gold_parsed[0], pred_parsed[0]) else "wrong"}


def _apart(a: Any, b: Any) -> bool:
    """Whether two numbers differ though math-verify, which compares 15 decimal places, calls them equal."""
    import sympy

    if not (isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr)) or a.free_symbols or b.free_symbols:
        return False
    a, b = a.doit(), b.doit()
    if a.is_Rational and b.is_Rational:
        return bool(a != b) and not _hundredfold(a, b)
    approximate = a.has(sympy.Float) or b.has(sympy.Float)
    left, right = a.evalf(30), b.evalf(30)
    if not (left.is_Number and right.is_Number):
        return False
    off = abs(left - right) > (1e-5 if approximate else 1e-12) * max(abs(left), abs(right))
    return bool(off) and not _hundredfold(left, right)


def _hundredfold(a: Any, b: Any) -> bool:
    """28 % against 28: math-verify lets the sign go, and so do we."""
    return bool(abs(a - 100 * b) <= abs(a) * 1e-12 or abs(b - 100 * a) <= abs(b) * 1e-12)


def _parse(cleaned: str) -> list[Any]:
    from math_verify import parse

    cleaned = _SUBSCRIPT.sub(r"_{\1}", cleaned.replace("%", r"\%"))  # its grammar knows no command there
    cleaned = _IMAGINARY.sub(" i ", cleaned)  # it knows "2 i" for a complex number, not "2i"
    cleaned = re.sub(r"(?<=\d),(?=\d)", ", ", cleaned)  # thousands are grouped no more: these are two numbers
    return list(
        parse(
            "$\\boxed{" + cleaned + "}$",
            extraction_config=[_config],
            fallback_mode="no_fallback",
            extraction_mode="first_match",
            parsing_timeout=None,
        )
    )
